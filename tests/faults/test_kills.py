"""Every program of a node is killed once and every network cut; `benchmarks.faults` does it at random."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.node import NETWORKS, TARGETS, Node, running_node
from tests.faults.rounds import SCANNERS, SLICES, Blow, run_round

pytestmark = pytest.mark.skipif(
    shutil.which("Orthanc") is None, reason="Orthanc is absent: apt install orthanc"
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("faults")) as node:
        yield node


@pytest.mark.parametrize(("number", "target"), [*enumerate(TARGETS)], ids=TARGETS)
def test_nothing_is_lost_and_nothing_sent_twice(node: Node, number: int, target: str, tmp_path: Path) -> None:
    node.wait_for_all()
    # Results travel when all was sent, so their network is cut later and more often.
    moments = [3.0 + 0.1 * at for at in range(30)] if target == NETWORKS[1] else [1.0]

    made = run_round(node, tmp_path, number, [Blow(target, at) for at in moments])

    assert {blow.target for blow in made.hit} == {target}
    assert made.acknowledged == SCANNERS * SLICES
    assert not made.violations
