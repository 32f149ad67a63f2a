"""Every program of a node is killed once while scanners send; `benchmarks.faults` does it at random."""

import shutil
from collections.abc import Iterator

import pytest

from tests.faults.node import TARGETS, Node, running_node
from tests.faults.rounds import SCANNERS, SLICES, Blow, run_round

pytestmark = pytest.mark.skipif(
    shutil.which("Orthanc") is None, reason="Orthanc is absent: apt install orthanc"
)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with running_node(tmp_path_factory.mktemp("faults")) as node:
        yield node


@pytest.mark.parametrize("number", range(len(TARGETS)), ids=list(TARGETS))
def test_a_killed_program_loses_nothing_and_sends_nothing_twice(
    node: Node, number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    target = list(TARGETS)[number]
    node.wait_for_all()

    made = run_round(node, tmp_path_factory.mktemp("studies"), number, [Blow(target, 1.0)])

    assert [blow.target for blow in made.hit] == [target]
    assert made.acknowledged == SCANNERS * SLICES
    assert not made.violations
