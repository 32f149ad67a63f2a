import subprocess
from pathlib import Path

import pytest

from lungnode.cli import hoist
from lungnode.errors import SettingsError
from lungnode.settings import load_settings
from tests.nodes import command, variables


def run(data: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(data, *arguments),
        env=variables(environment),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def complaint(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> str:
    path.write_text(text)
    monkeypatch.setenv("LUNGNODE_CONFIG", str(path))
    with pytest.raises(SettingsError) as raised:
        load_settings()
    return str(raised.value)


def test_options_that_hold_everywhere_are_moved_to_the_front() -> None:
    assert hoist(["studies", "list", "--data", "x", "--debug", "--config=y"]) == [
        "--data", "x", "--debug", "--config=y", "studies", "list",
    ]  # fmt: skip


def test_what_follows_two_dashes_stays_where_it_is() -> None:
    assert hoist(["classify", "--", "--data", "x"]) == ["classify", "--", "--data", "x"]


def test_an_option_without_its_value_is_wrong_use() -> None:
    with pytest.raises(SettingsError, match="--data needs a value"):
        hoist(["studies", "list", "--data"])


def test_a_settings_file_that_is_named_and_missing_is_wrong_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LUNGNODE_CONFIG", str(tmp_path / "missing.toml"))

    with pytest.raises(SettingsError, match=r"missing\.toml cannot be read: No such file"):
        load_settings()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[receiver]\nprt = 104\n",
            "There is no setting receiver.prt; docs/operations.md lists all of them.",
        ),
        ('[[destinations]]\nname = "pacs"\n', "Setting destinations.0.ae_title is missing."),
        (
            '[[destinations]]\nname = "back"\nkind = "sender"\nhost = "10.0.0.5"\n',
            "There is no setting destinations.0.host; docs/operations.md lists all of them.",
        ),
        (
            '[[destinations]]\nname = "fax"\nkind = "fax"\n',
            "Setting destinations.0: There are these kinds of destination: dicom, sender, stow, fhir, hl7.",
        ),
    ],
)
def test_an_unknown_or_missing_setting_is_one_sentence(
    text: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert complaint(monkeypatch, tmp_path / "lungnode.toml", text) == sentence


@pytest.mark.parametrize("name", ["LUNGNODE_RECIEVER__PORT", "LUNGNODE_RECEIVER_PORT", "LUNGNODE_LOGLEVEL"])
def test_a_variable_that_names_no_setting_is_wrong_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "104")

    with pytest.raises(SettingsError, match=f"The variable {name} names no setting; docs/operations.md"):
        load_settings()


def test_variables_of_settings_and_of_a_kubernetes_service_are_read_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kubernetes sets these in every pod beside a service of the name lungnode."""
    monkeypatch.setenv("LUNGNODE_DATA", str(tmp_path))
    monkeypatch.setenv("lungnode_receiver__port", "104")
    monkeypatch.setenv("LUNGNODE_PORT", "tcp://10.0.0.1:11112")
    monkeypatch.setenv("LUNGNODE_SERVICE_HOST", "10.0.0.1")
    monkeypatch.setenv("LUNGNODE_SERVICE_PORT_DICOM", "11112")
    monkeypatch.setenv("LUNGNODE_PORT_11112_TCP_ADDR", "10.0.0.1")
    monkeypatch.setenv("LUNGNODE_WEB_SERVICE_PORT", "8080")

    settings = load_settings()

    assert (settings.data, settings.receiver.port) == (tmp_path, 104)


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    done = run(tmp_path, "phantom", str(tmp_path / "file/out"), "--slices", "1")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"lungnode: The folder {tmp_path}/file/out cannot be written: Not a directory.\n"


def test_a_database_url_that_is_none_is_wrong_use(tmp_path: Path) -> None:
    done = run(tmp_path, "studies", "list", LUNGNODE_DATABASE_URL="nonsense")

    assert done.returncode == 2
    assert done.stderr == "lungnode: The database_url is no SQLAlchemy URL.\n"


@pytest.mark.parametrize(
    ("option", "value"), [("--verdict", "ill"), ("--date", "2026-01-01"), ("--state", "gone")]
)
def test_a_filter_that_can_match_nothing_is_wrong_use(option: str, value: str, tmp_path: Path) -> None:
    done = run(tmp_path, "studies", "list", option, value)

    assert (done.returncode, done.stdout) == (2, "")
    assert f"{value}: " in done.stderr


def test_an_error_that_nobody_foresaw_has_its_traceback_with_debug_alone(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/lungnode.sqlite3").write_text("no database " * 100)

    short = run(tmp_path / "data", "studies", "list")
    long = run(tmp_path / "data", "studies", "list", "--debug")

    assert (short.returncode, long.returncode) == (1, 1)
    assert short.stderr.startswith("lungnode: ")
    assert "Traceback" not in short.stderr
    assert "Traceback" in long.stderr
