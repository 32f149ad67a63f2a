"""The alert rules on series as a node leaves them, and the dashboard, tried by Prometheus's own tool."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
RULES = DEPLOY / "prometheus/rules/lungnode.yml"
ANALYSES = "lungnode_analyses"
ENDED = "lungnode_analyses_ended_total"
LABELS = "lungnode_labels"
# An alert, and series of a value a minute that let it fire at their end.
FIRING: dict[str, dict[str, str]] = {
    "LungnodeProgramDown": {'lungnode_program_alive{program="clerk",host="a"}': "1 0x9"},
    "LungnodeProgramNotReady": {
        'lungnode_program_alive{program="clerk",host="a"}': "1x29",
        'lungnode_program_ready{program="clerk",host="a"}': "1x9 0x19",
    },
    "LungnodeWebDown": {'up{job="lungnode",instance="a"}': "1 0x9"},
    "LungnodeAnalysesWait": {"lungnode_analysis_oldest_seconds": "0+60x29"},
    "LungnodeDeliveriesWait": {"lungnode_delivery_oldest_seconds": "0+60x29"},
    "LungnodeDeliveriesEndedBadly": {'lungnode_deliveries{destination="PACS",state="dead"}': "0x20 1x9"},
    "LungnodeAnalysesQuarantined": {f'{ANALYSES}{{state="quarantined"}}': "0x20 1x9"},
    "LungnodeDiskLow": {"lungnode_disk_free_bytes": "5e9x29", "lungnode_disk_size_bytes": "100e9x29"},
    "LungnodeDiskAlmostFull": {"lungnode_disk_free_bytes": "1e9x9", "lungnode_disk_size_bytes": "4e9x9"},
    "LungnodeStoreAway": {"lungnode_store_reachable": "1x9 0x19"},
    "LungnodeRefusesSenders": {
        'lungnode_receiver_refusals_total{host="a",process="0",name="NO_SPACE"}': "0+2x29"
    },
    "LungnodeReadersDisagree": {
        f'{LABELS}{{model="m",label="positive",verdict="negative"}}': "6x90",  # and no positive one agrees
        f'{LABELS}{{model="m",label="negative",verdict="negative"}}': "9x90",
    },
}
# The same with a value every half an hour.
FIRING_LATER: dict[str, dict[str, str]] = {
    "LungnodePositiveRateChanged": {
        f'{ENDED}{{state="done",verdict="negative",model="m"}}': "0+1x95 95x47",
        f'{ENDED}{{state="done",verdict="positive",model="m"}}': "0x95 0+1x47",
    },
}
QUIET: dict[str, dict[str, str]] = {
    "LungnodeAnalysesQuarantined": {f'{ANALYSES}{{state="quarantined"}}': "7x90"},
    "LungnodeDeliveriesEndedBadly": {'lungnode_deliveries{destination="PACS",state="dead"}': "7x90"},
    "LungnodeReadersDisagree": {
        f'{LABELS}{{model="m",label="positive",verdict="negative"}}': "6x90",
        f'{LABELS}{{model="m",label="negative",verdict="negative"}}': "90x90",
    },
}
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is absent: apt install prometheus"
)


def ends_at(series: dict[str, str]) -> int:
    """Which value of some series is the last: `a+bxn` are n + 1 of them."""
    counts = (
        sum(int(part.rpartition("x")[2]) + 1 if "x" in part else 1 for part in text.split())
        for text in series.values()
    )
    return max(counts) - 1


def promtool(folder: Path, firing: dict[str, dict[str, str]], *, step_min: int, count: int) -> None:
    """Check how many alerts of each name fire at the end of the series."""
    tests = [
        {
            "interval": f"{step_min}m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)',
                    "eval_time": f"{step_min * ends_at(series)}m",
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
            ],
        }
        for alert, series in firing.items()
    ]
    file = folder / "tests.yml"
    document = {"rule_files": [str(RULES)], "evaluation_interval": f"{step_min}m", "tests": tests}
    file.write_text(yaml.safe_dump(document))

    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr + done.stdout


def test_every_alert_is_tried() -> None:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]

    assert {rule["alert"] for rule in group["rules"]} == {*FIRING, *FIRING_LATER}


@needs_promtool
def test_every_alert_fires_when_it_should(tmp_path: Path) -> None:
    promtool(tmp_path, FIRING, step_min=1, count=1)
    promtool(tmp_path, FIRING_LATER, step_min=30, count=1)


@needs_promtool
def test_prometheus_understands_what_the_dashboard_asks(tmp_path: Path) -> None:
    panels = json.loads((DEPLOY / "grafana/dashboards/lungnode.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$\w+", "5m", expression)}
        for number, expression in enumerate(asked)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))

    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False)

    assert len(asked) > 10
    assert done.returncode == 0, done.stderr + done.stdout


@needs_promtool
def test_what_went_wrong_long_ago_and_readers_who_agree_raise_no_alert(tmp_path: Path) -> None:
    promtool(tmp_path, QUIET, step_min=1, count=0)
