import json
import socket
import subprocess
from pathlib import Path

import httpx

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


def test_the_web_is_a_part_of_the_node_and_knows_the_other_programs(tmp_path: Path) -> None:
    data = tmp_path / "data"
    settings = {"LUNGNODE_WEB__ENABLED": "true", "LUNGNODE_RECEIVER__PORT": "0"}
    settings |= {"LUNGNODE_RECEIVER__HOST": "127.0.0.1"}
    with lungnode(data, "up", environment=settings, log=tmp_path / "log") as node:
        wait_for((data / "web.json").exists, limit_s=60, what="the web")
        told = json.loads((data / "web.json").read_text())
        with httpx.Client(base_url=f"http://{told['host']}:{told['port']}", timeout=60) as client:
            wait_for(lambda: client.get("/health/ready/clerk").is_success, limit_s=60, what="the clerk")
            wait_for(lambda: client.get("/health/ready/receive").is_success, limit_s=60, what="the receiver")
            form = client.get("/sign-in")
        assert stop(node) == 0

    assert (form.status_code, "Sign in" in form.text) == (200, True)
    assert "The web is at http://127.0.0.1:" in (tmp_path / "log").read_text()
