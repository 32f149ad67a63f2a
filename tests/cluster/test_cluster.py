"""Hosts of a node are cut off, killed and upgraded while scanners send.

`benchmarks.cluster` does more of it, at random.
"""

from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from tests.cluster.load import scanning, violations
from tests.cluster.node import ROLES, Cluster, running_cluster, skip_where_impossible

CUT_S = 2.5  # longer than a poll or a sweep, shorter than a lease
PAUSE_S = 1.0


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    skip_where_impossible()
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


def test_hosts_are_cut_off_one_after_the_other_and_nothing_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    with scanning(cluster, tmp_path, first=0) as load:
        for host in ("intake1", "work1", "database", "broker", "pacs", "intake2", "work2", "balancer"):
            load.send()
            cluster.host(host).cut()
            sleep(CUT_S)
            cluster.host(host).mend()
            sleep(PAUSE_S)

    assert len(load.sent) == 8
    assert list(violations(cluster, load.sent)) == []


def test_hosts_are_killed_one_after_the_other_and_nothing_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    with scanning(cluster, tmp_path, first=100) as load:
        for host in ("intake1", "work1", "database", "intake2", "work2", "broker"):
            load.send()
            sleep(PAUSE_S)
            if host in ROLES:
                cluster.kill(host)
                cluster.start_all(host)
            else:
                cluster.lose_power(host)

    assert len(load.sent) == 6
    assert list(violations(cluster, load.sent)) == []
