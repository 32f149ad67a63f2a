import json
from base64 import b64decode
from pathlib import Path

import pytest
from redis import Redis

from lungnode.errors import UnavailableError
from lungnode.queue import ANALYSE_TASK, ANALYSIS_QUEUE, DELIVER_TASK, DELIVERY_QUEUE, open_queue, wake
from lungnode.settings import Settings
from tests.nodes import embedded_broker


@pytest.mark.parametrize(("task", "queue"), [(ANALYSE_TASK, ANALYSIS_QUEUE), (DELIVER_TASK, DELIVERY_QUEUE)])
def test_a_message_names_the_row_and_nothing_else(tmp_path: Path, task: str, queue: str) -> None:
    settings = Settings(data=tmp_path)

    with embedded_broker(settings), Redis(unix_socket_path=str(settings.broker_socket)) as client:
        wake(open_queue(settings), task, 17)
        message = json.loads(client.lindex(queue, 0) or "")

    arguments, keywords, _ = json.loads(b64decode(message["body"]))
    assert (message["headers"]["task"], arguments, keywords) == (task, [17], {})
    assert message["headers"]["eta"] is None


def test_a_broker_that_is_away_is_said_at_once_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path)
    app = open_queue(settings)

    with pytest.raises(UnavailableError, match="row 1"):
        wake(app, ANALYSE_TASK, 1)
    with embedded_broker(settings):
        wake(app, ANALYSE_TASK, 1)
    with pytest.raises(UnavailableError, match="row 2"):
        wake(app, ANALYSE_TASK, 2)
    with embedded_broker(settings), Redis(unix_socket_path=str(settings.broker_socket)) as client:
        wake(app, ANALYSE_TASK, 2)
        assert client.llen(ANALYSIS_QUEUE) == 1
