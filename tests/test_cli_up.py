import socket
import subprocess
from pathlib import Path

from tests.nodes import command, lungnode, stop, variables, wait_for


def run(
    *arguments: str, data: Path, environment: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(data, *arguments),
        env=variables(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_data_folder_that_cannot_be_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run("up", data=tmp_path / "file/data")

    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr == f"lungnode: The data folder {tmp_path}/file/data cannot be written: Not a directory.\n"
    )


def test_a_database_that_is_away_is_one_sentence(tmp_path: Path) -> None:
    url = {"LUNGNODE_DATABASE_URL": "postgresql://lungnode@127.0.0.1:1/lungnode"}

    done = run("up", data=tmp_path, environment=url)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "lungnode: The database postgresql+psycopg://lungnode@127.0.0.1:1/lungnode is unavailable"
    )


def test_a_setting_with_a_wrong_name_is_wrong_use(tmp_path: Path) -> None:
    (tmp_path / "lungnode.toml").write_text("[reciever]\nport = 104\n")

    done = run("up", "--config", str(tmp_path / "lungnode.toml"), data=tmp_path)

    assert done.returncode == 2
    assert "reciever" in done.stderr


def test_a_port_that_is_taken_is_said_by_name_and_served_once_it_is_free(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        setting = {"LUNGNODE_RECEIVER__PORT": str(port), "LUNGNODE_RECEIVER__HOST": "127.0.0.1"}
        with lungnode(tmp_path / "data", "up", environment=setting, log=log) as node:
            wait_for(lambda: "receive ended with exit code 1" in log.read_text(), what="the complaint")
            other.close()
            wait_for(lambda: "For research use only" in log.read_text(), limit_s=60, what="the receiver")
            assert stop(node) == 0

    text = log.read_text()
    assert f"lungnode: The receiver cannot listen on 127.0.0.1 port {port}: Address already in use." in text
    assert f"Lungnode receives as LUNGNODE on 127.0.0.1 port {port}" in text
    assert text.rstrip().endswith("Lungnode has stopped.")
