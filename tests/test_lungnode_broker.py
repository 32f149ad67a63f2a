import os
import shutil
from pathlib import Path

import pytest
from redis import Redis

from lungnode.broker import ping, prepare_socket
from lungnode.errors import UnavailableError
from lungnode.queue import ANALYSE_TASK, ANALYSIS_QUEUE, open_queue, wake
from lungnode.settings import Settings
from tests.nodes import embedded_broker

SUN_PATH = 108  # Source: unix(7), the closing zero included


def test_the_broker_answers_on_a_socket_that_is_ours_alone_and_on_no_port(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)

    with embedded_broker(settings), Redis(unix_socket_path=str(tmp_path / "valkey.sock")) as client:
        assert client.config_get("port") == {"port": "0"}
        assert settings.broker_socket.stat().st_mode & 0o777 == 0o700


def test_messages_leave_nothing_on_disk(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)

    with embedded_broker(settings):
        wake(open_queue(settings), ANALYSE_TASK, 1)

    assert {path.name for path in tmp_path.iterdir()} <= {"valkey.sock", "valkey.log"}


@pytest.mark.parametrize("name", ["plain", "with space", "grün%25#?&=+", "a" * 200])
def test_every_data_folder_can_have_a_broker(tmp_path: Path, name: str) -> None:
    settings = Settings(data=tmp_path / name)

    with embedded_broker(settings), Redis(unix_socket_path=str(settings.broker_socket)) as client:
        wake(open_queue(settings), ANALYSE_TASK, 1)
        ping(settings.broker)
        assert client.llen(ANALYSIS_QUEUE) == 1

    assert len(os.fsencode(settings.broker_socket)) < SUN_PATH
    shutil.rmtree(settings.broker_socket.parent)  # the long one's lies outside tmp_path


def test_the_socket_of_a_long_data_folder_is_found_again_and_shared_with_no_other(tmp_path: Path) -> None:
    long, longer = tmp_path / ("a" * 120), tmp_path / ("a" * 121)

    assert Settings(data=long).broker_socket == Settings(data=long).broker_socket
    assert Settings(data=long).broker_socket != Settings(data=longer).broker_socket


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder away")
def test_a_socket_folder_that_somebody_else_made_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)  # as /tmp is
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 12345, 12345)

    with pytest.raises(UnavailableError, match="belongs to another user"):
        prepare_socket(folder / "valkey.sock")


def test_a_broker_that_is_away_is_named_without_its_password() -> None:
    with pytest.raises(UnavailableError) as caught:
        ping("redis://someone:secret@127.0.0.1:1/0")

    assert str(caught.value).startswith("The broker redis://127.0.0.1:1/0 gives no answer: ")
    assert "secret" not in str(caught.value)
