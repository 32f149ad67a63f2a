"""How models and comparisons are shown to a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from lungnode.cli.study_views import wide_console


def print_models(models: Sequence[Mapping[str, Any]]) -> None:
    """Print a line a model; the star is the one in use."""
    table = Table()
    for heading in ("", "model", "state", "sha256", "threshold", "AUC gained", "since", "folder"):
        table.add_column(heading, overflow="fold")
    for model in models:
        comparison = model["comparison"]
        table.add_row(
            "*" if model["active"] else "",
            escape(f"{model['name']} {model['version']}"),
            model["state"],
            model["digest"][:12],
            "" if model["threshold"] is None else f"{model['threshold']:.3f}",
            f"{comparison['auc']['value']:+.3f}" if "auc" in comparison else "",
            (model["activated_at"] or "")[:16],
            escape(model["path"]),
        )
    console = wide_console()
    console.print(table)
    for model in models:
        if model["problem"]:
            console.print(model["problem"], markup=False, soft_wrap=True)


def print_comparison(record: Mapping[str, Any]) -> None:
    """Print both models' figures side by side, and what may be concluded."""
    auc, acc, verdicts = record["auc"], record["acc"], record["mcnemar"]
    data = record["data"]
    where = f"test set {data['test_set']}" if data["test_set"] else f"list {data['digest'][:12]}"
    table = Table(
        title=f"{where}: {record['n']} {record['level']}, {record['positive']} positive, "
        f"{record['groups']} patients"
    )
    for heading in ("", *(_title(record[side]) for side in ("active", "candidate")), "difference", "p"):
        table.add_column(heading, justify="right")
    for name, found in (("auc", auc), ("acc", acc)):
        values = (f"{record[f'{side}_{name}']:.3f}" for side in ("active", "candidate"))
        table.add_row(name, *values, _interval(found), f"{found['p']:.3f} {found['method']}")
    console = wide_console()
    console.print(table)
    console.print(
        f"Only the active model is right on {verdicts['only_active']}, only the candidate on "
        f"{verdicts['only_candidate']}: McNemar's exact p = {verdicts['p']:.3f}."
    )
    if auc["method"] != "DeLong":
        console.print(
            "Patients have several, so that DeLong and McNemar would be too sure: a bootstrap over patients "
            "gives intervals and p."
        )
    told = record.get("promoted") is False  # the refusal says the same
    for sentence in () if told else record["objections"]:
        console.print(sentence, markup=False)


def _title(model: Mapping[str, Any]) -> str:
    return escape(f"{model['name']} {model['version']}")


def _interval(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{found['value']:+.3f}"
    return f"{found['value']:+.3f} ({found['low']:+.3f} to {found['high']:+.3f})"
