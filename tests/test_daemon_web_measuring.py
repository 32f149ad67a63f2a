import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from benchmarks.generated import fill
from daemon.receiver.told import CountsFile
from daemon.web.measuring import Measures
from db.models import Analysis, Delivery
from db.session import transaction
from lungnode.pulse import Pulse
from lungnode.settings import WebSettings
from tests.databases import new_sqlite
from tests.dicom_wire import Peer
from tests.receiving import an_instance, running_receiver, wait_until
from tests.web import Web

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder = tmp_path_factory.mktemp("measuring")
    engine = new_sqlite(f"sqlite:///{folder / 'lungnode.sqlite3'}")
    fill(engine, 300)
    web = Web(engine, folder / "data", {"web": WebSettings(open_metrics=True)})
    web.node.settings.data.mkdir()
    with transaction(engine) as session:
        session.scalars(select(Analysis).where(Analysis.verdict == "error").limit(1)).one().state = "queued"
    end_some(web)
    yield web
    engine.dispose()


def end_some(web: Web) -> None:
    """Let an analysis and its deliveries end now."""
    now = web.clock()
    with transaction(web.engine) as session:
        row = session.scalars(select(Analysis).where(Analysis.verdict == "positive").limit(1)).one()
        row.finished_at, row.created_at = now, now - timedelta(seconds=20)
        for delivery in session.scalars(select(Delivery).where(Delivery.analysis_id == row.id)):
            delivery.finished_at = now


def numbers(text: str) -> dict[tuple[str, str], float]:
    """Return each value by its name and its labels."""
    return {
        (
            sample.name,
            ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items())),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(web: Web) -> dict[tuple[str, str], float]:
    answer = web.browser().get("/metrics")
    assert answer.status_code == 200
    return numbers(answer.text)


def test_what_is_there_is_counted_by_state(web: Web) -> None:
    found = scrape(web)

    assert sum(value for (name, _), value in found.items() if name == "lungnode_studies") == 300
    assert found["lungnode_instances_received_total", ""] == 900
    assert found["lungnode_analysis_oldest_seconds", ""] > 86_400
    assert found["lungnode_disk_free_bytes", ""] > 0
    agreed = [key for key in found if key[0] == "lungnode_labels"]
    assert any("label=negative,model=lungnode-resnet50 1.0,verdict=negative" in key[1] for key in agreed)


def test_what_ended_is_counted_once_however_often_it_is_looked_at(web: Web) -> None:
    first = scrape(web)
    again = scrape(web)
    web.clock.pass_s(60)
    end_some(web)  # the same rows: counted already, though they ended again
    later = scrape(web)

    phases = ("lungnode_analysis_phase_seconds_count", "phase=decode")
    ended = {key: value for key, value in again.items() if key[0] == "lungnode_analyses_ended_total"}
    assert ended == {
        ("lungnode_analyses_ended_total", "model=lungnode-resnet50 1.0,state=done,verdict=positive"): 1
    }
    assert (first[phases], again[phases], later[phases]) == (1, 1, 1)
    seconds = "destination=PACS,state=committed"
    assert again["lungnode_delivery_seconds_sum", seconds] == pytest.approx(40)


def test_the_receivers_processes_leave_their_counts_for_the_web(web: Web, tmp_path: Path) -> None:
    with running_receiver(tmp_path, processes=1) as receiver:
        with Peer(receiver.port) as peer:
            peer.associate()
            peer.store(an_instance(1))
            peer.store(an_instance(2))
            peer.release()
        folder = receiver.data / "metrics"
        wait_until(
            lambda: any('"released": 1' in path.read_text() for path in folder.glob("*.json")), "no counts"
        )
        shutil.copytree(folder, web.node.settings.data / "metrics", dirs_exist_ok=True)

    found = {key[0]: value for key, value in scrape(web).items() if "process=0" in key[1]}
    assert found["lungnode_receiver_instances_total"] == 2
    assert found["lungnode_receiver_associations_total"] == 1
    assert found["lungnode_receiver_bytes_total"] > 100_000


def test_damaged_counts_are_none(web: Web) -> None:
    folder = web.node.settings.data / "metrics"
    folder.mkdir(exist_ok=True)
    for number, text in enumerate(('{"counts": 1}', "", '{"counts": {"instances": "x"}}')):
        (folder / f"receiver-broken-{number}.json").write_text(text)

    assert not [key for key in scrape(web) if "broken" in key[1]]


def test_programs_are_alive_and_ready_as_they_say(web: Web) -> None:
    data = web.node.settings.data
    Pulse(data, "clerk").beat(waiting="the database")
    Pulse(data, "worker-analysis").beat(waiting="")
    browser = web.browser()

    found = {(name, labels.partition("program=")[2]): value for (name, labels), value in scrape(web).items()}
    assert found["lungnode_program_alive", "clerk"] == 1
    assert found["lungnode_program_ready", "clerk"] == 0
    assert found["lungnode_program_ready", "worker-analysis"] == 1
    asked = ("live/clerk", "ready/clerk", "ready/worker-analysis", "live/receive", "live/nobody")
    assert [browser.get(f"/health/{each}").status_code for each in asked] == [200, 503, 200, 503, 422]
    assert "the database" in str(browser.get("/health/ready/clerk").json()["hosts"])


def test_without_the_setting_a_token_is_needed(web: Web) -> None:
    web.app.state.node = type(web.node)(
        web.node.settings.model_copy(update={"web": WebSettings()}), web.engine, web.clock
    )
    try:
        viewer, admin = web.program("viewer", "view"), web.program("admin", "metrics")
        answers = [client.get("/metrics").status_code for client in (web.browser().client, viewer, admin)]
    finally:
        web.app.state.node = web.node

    assert answers == [401, 403, 200]


def test_counts_that_cannot_be_written_stop_nobody(tmp_path: Path) -> None:
    (tmp_path / "metrics").write_text("a file where the folder should be")

    CountsFile(tmp_path, 0).write({"instances": 1})


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is absent: apt install prometheus")
def test_prometheus_takes_the_rules_and_finds_nothing_to_lint(web: Web) -> None:
    rules = ("promtool", "check", "rules", str(DEPLOY / "prometheus/rules/lungnode.yml"))
    text = Measures(web.node).text()

    assert "SUCCESS" in subprocess.run(rules, capture_output=True, text=True, check=True).stdout
    checked = subprocess.run(("promtool", "check", "metrics"), input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, b"")


def test_rules_and_dashboard_ask_for_numbers_that_exist(web: Web) -> None:
    told = web.browser().get("/metrics").text
    known = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    dashboard = json.loads((DEPLOY / "grafana/dashboards/lungnode.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    asked += (DEPLOY / "prometheus/rules/lungnode.yml").read_text()

    names = {name.removesuffix("_bucket") for name in re.findall(r"\blungnode_\w+", asked)}
    assert len(names) > 12
    assert names - known == set()
