"""A few seconds of what `benchmarks.hostile` does for many minutes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.attack import attack
from tests.hostile.honest import Honest
from tests.hostile.watch import Watch
from tests.receiving import RunningReceiver, running_receiver

SEED = 1
ATTEMPTS = 2_000


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningReceiver]:
    with running_receiver(tmp_path_factory.mktemp("receiver"), processes=2) as running:
        yield running


def test_fuzzed_pdus_end_their_connection_at_most_and_others_are_served(receiver: RunningReceiver) -> None:
    watch = Watch.begin(receiver)
    with Honest(receiver) as honest:
        outcome = attack(receiver.port, SEED, range(ATTEMPTS))

    assert (outcome.sent, outcome.hung) == (ATTEMPTS, [])
    assert outcome.over_association > ATTEMPTS * 0.45
    assert honest.problems() == []
    assert watch.problems() == []
    assert Path(receiver.data).is_dir()
