"""All that may happen to a node happens once; `benchmarks.faults` draws it at random, hundreds of times."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.node import NAMED, NETWORKS, SLOW, Node, running_node
from tests.faults.rounds import SCANNERS, SLICES, Blow, run_round

pytestmark = pytest.mark.skipif(
    shutil.which("Orthanc") is None, reason="Orthanc is absent: apt install orthanc"
)
# Results travel when all was sent, so their network is cut later and more often.
ROUNDS = (
    [
        Blow("mid-batch of files", 0.0),
        Blow("after rename before directory sync", 0.3),
        Blow("receiver", 0.6),
        Blow("mid-batch of slices", 0.7),
        Blow("after a C-STORE-RSP before its row", 0.8),
        Blow("broker", 1.0),
        Blow("after commit before unlink", 1.1),
        *(Blow(NETWORKS[1], 4.0 + 0.1 * at) for at in range(20)),
    ],
    [
        Blow("mid-release of a scanner", 0.0),
        Blow("after files before their rows", 0.1),
        Blow("mid-release of ours", 0.2),
        Blow("receiver's child", 0.4),
        Blow(NETWORKS[0], 0.8),
        Blow("analysis worker", 1.0),
        Blow("after commit before wake-up", 1.1),
        Blow(SLOW[0], 1.5, 0.2),
        Blow("disk", 2.0, 0.2),
        Blow("courier", 4.0),
        Blow("clerk", 4.2),
        *(Blow(SLOW[1], 5.0 + 0.1 * at) for at in range(10)),
    ],
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("faults")) as node:
        yield node


@pytest.mark.parametrize("number", range(len(ROUNDS)))
def test_nothing_is_lost_and_nothing_sent_twice(node: Node, number: int, tmp_path: Path) -> None:
    node.wait_for_all()
    blows = [blow for blow in ROUNDS[number] if blow.target in node.targets]

    made = run_round(node, tmp_path, number, blows)

    assert {blow.target for blow in made.hit} >= {blow.target for blow in blows} - {NETWORKS[1], SLOW[1]}
    assert made.acknowledged == SCANNERS * SLICES
    assert [each for each in made.violations if "stood still" not in each] == []  # a matter of the machine


def test_every_named_point_is_in_a_round() -> None:
    assert {blow.target for round_ in ROUNDS for blow in round_} >= NAMED.keys()


def test_a_node_on_postgresql_outlives_its_database(tmp_path: Path) -> None:
    with running_node(tmp_path, postgresql=True) as node:
        node.wait_for_all()

        blows = [Blow("database", 0.5), Blow("analysis worker's child", 3.5), Blow("database", 4.0)]
        made = run_round(node, tmp_path, 0, blows)

    assert {blow.target for blow in made.hit} == {"database", "analysis worker's child"}
    assert [each for each in made.violations if "stood still" not in each] == []
