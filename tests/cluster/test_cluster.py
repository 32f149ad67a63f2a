"""Hosts of a node are cut off, killed and upgraded while scanners send."""

from collections.abc import Iterator
from pathlib import Path
from time import sleep

import pytest

from db.session import revision_of, transaction
from tests.cluster.load import scanning, violations
from tests.cluster.node import ROLES, Cluster, running_cluster, skip_where_impossible
from tests.cluster.release import REVISION, make_next_release

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


def test_every_program_is_upgraded_while_scanners_send_and_nothing_is_lost(
    cluster: Cluster, tmp_path: Path
) -> None:
    before, after = cluster.release, make_next_release(tmp_path / "next")
    programs = list(cluster.programs)

    with scanning(cluster, tmp_path, first=200) as load:
        load.send()
        cluster.release = after
        cluster.run("intake1", "db upgrade")
        # A host that restarts meanwhile starts the version that it has.
        cluster.release = before
        for role in ROLES["intake2"]:
            load.send()
            assert cluster.stop("intake2", role) == 0
            cluster.start("intake2", role)
        cluster.release = after
        for name, role in programs:
            load.send()
            assert cluster.stop(name, role) == 0
            cluster.start(name, role)
            cluster.wait_until_ready(name, role)

    assert len(load.sent) == len(programs) + 3
    assert list(violations(cluster, load.sent)) == []
    with transaction(cluster.engine) as session:
        assert revision_of(session) == REVISION
