"""How studies are shown: as JSON, as a table, as a page."""

import sys
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from db.models import Analysis, CommitmentRequest, Correction, Delivery, Inquiry, Study
    from db.queries import SeriesSummary, StudySummary

_BAR: Final = 40  # characters of the longest phase
_STUDY: Final = (
    "study_instance_uid",
    "patient_id",
    "patient_name",
    "patient_birth_date",
    "patient_sex",
    "accession_number",
    "study_date",
    "study_description",
    "calling_ae_title",
    "called_ae_title",
    "address",
    "rule",
    "state",
    "revision",
    "completeness",
    "hold",
    "expired",
    "files_deleted_by",
)
_SELDOM: Final = ("hold", "expired", "files_deleted_by", "files_deleted_at")  # shown where there is something
_ANALYSIS: Final = (
    "revision",
    "state",
    "verdict",
    "probability",
    "threshold",
    "reason",
    "completeness",
    "attempts",
    "model",
    "model_digest",
    "runtime",
    "withdrawn",
    "reading",
    "phases",
    "details",
)


def summary_record(summary: "StudySummary") -> dict[str, Any]:
    """Return one line of a list as JSON."""
    analysis = summary.analysis
    return {
        **study_record(summary.study),
        "series": summary.series,
        "instances": summary.instances,
        "analysis": analysis.state if analysis else "",
        "verdict": analysis.verdict if analysis else "",
        "probability": analysis.probability if analysis else None,
    }


def study_record(study: "Study") -> dict[str, Any]:
    """Return a study's own attributes as JSON."""
    times = {name: getattr(study, name) for name in ("created_at", "changed_at", "files_deleted_at")}
    said = {name: time.isoformat() if time else None for name, time in times.items()}
    return {name: getattr(study, name) for name in _STUDY} | said


def series_record(series: "SeriesSummary") -> dict[str, Any]:
    """Return one series as JSON."""
    return dict(vars(series))


def question_record(row: "Inquiry") -> dict[str, Any]:
    """Return what the source of a study was asked as JSON."""
    names = ("revision", "kind", "peer", "state", "attempts", "present", "expected", "details", "reason")
    finished = row.finished_at.isoformat() if row.finished_at else None
    return {name: getattr(row, name) for name in names} | {"finished_at": finished}


def correction_record(correction: "Correction") -> dict[str, Any]:
    """Return a correction as JSON."""
    names = ("revision", "source", "attributes", "replaced")
    return {name: getattr(correction, name) for name in names} | {"at": correction.at.isoformat()}


def analysis_record(analysis: "Analysis", max_attempts: int) -> dict[str, Any]:
    """Return an analysis with its outputs and deliveries as JSON."""
    from db.deliveries import next_step  # noqa: PLC0415 - when called

    record = {name: getattr(analysis, name) for name in _ANALYSIS}
    for name in ("created_at", "started_at", "finished_at"):
        time = getattr(analysis, name)
        record[name] = time.isoformat() if time else None
    output = ("group", "sop_class_uid", "sop_instance_uid", "series_instance_uid", "path", "size")
    delivery = ("id", "destination", "group", "state", "attempts", "reason")
    record["outputs"] = [{name: getattr(row, name) for name in output} for row in analysis.outputs]
    record["deliveries"] = [
        {name: getattr(row, name) for name in delivery}
        | {"next_step": next_step(row, max_attempts), "seconds": _seconds(analysis, row)}
        | {"confirmation": confirmation_record(row)}
        for row in analysis.deliveries
    ]
    return record


def confirmation_record(delivery: "Delivery") -> dict[str, Any] | None:
    """Return what the destination says of a stored delivery as JSON; None when it was not to be asked."""
    row = delivery.confirmation
    if row is None:
        return None
    return {
        "state": row.state,
        "method": row.method,
        "attempts": row.attempts,
        "resends": row.resends,
        "due_at": row.due_at.isoformat(),
        "finished_at": row.finished_at.isoformat() if row.finished_at else None,
        "reason": row.reason,
    }


def commitment_record(row: "CommitmentRequest") -> dict[str, Any]:
    """Return a request as JSON; of its instances those that failed."""
    names = ("id", "calling_ae_title", "transaction_uid", "state", "attempts", "reason")
    times = ("requested_at", "verified_at", "finished_at")
    told = {name: getattr(row, name) for name in times}
    failures = [each for each in row.instances if each["failure_reason"]]
    return (
        {name: getattr(row, name) for name in names}
        | {name: time.isoformat() if time else None for name, time in told.items()}
        | {"instances": len(row.instances), "failed": len(failures), "failures": failures}
    )


def _seconds(analysis: "Analysis", delivery: "Delivery") -> float | None:
    """Return how long after the study was complete a delivery ended."""
    end = delivery.finished_at
    return round((end - analysis.created_at).total_seconds(), 3) if end else None


def wide_console() -> Console:
    """Return a console on standard output; into a pipe nothing is cut off, for UIDs are long."""
    return Console() if sys.stdout.isatty() else Console(width=240)


def print_list(console: Console, records: list[dict[str, Any]]) -> None:
    """Print studies as a table."""
    table = Table("Study", "Patient ID", "Date", "Sender", "State", "Images", "Completeness", "Verdict")
    for record in records:
        verdict = record["verdict"] or record["analysis"]
        probability = "" if record["probability"] is None else f" {record['probability']:.3f}"
        cells = (
            record["study_instance_uid"],
            record["patient_id"],
            record["study_date"],
            record["calling_ae_title"],
            f"{record['state']} {record['revision']}",
            str(record["instances"]),
            record["completeness"],
            f"{verdict}{probability}",
        )
        table.add_row(*(escape(cell) for cell in cells))
    console.print(table)


def print_study(console: Console, record: dict[str, Any]) -> None:
    """Print everything that is known of one study."""
    _print_attributes(console, record)
    table = Table("Series", "Modality", "Disposition", "Images", "Frames", "MB")
    for series in record["series"]:
        table.add_row(
            series["series_instance_uid"],
            escape(series["modality"]),
            series["disposition"],
            str(series["instances"]),
            str(series["frames"]),
            f"{series['size'] / 1e6:.1f}",
        )
    console.print(table)
    for noted in record["notes"]:
        console.print(f"{noted['disposition']} {noted['path']}: {escape(noted['note'])}", highlight=False)
    for question in record["questions"]:
        console.print(escape(_question(question)), highlight=False)
    for correction in record["corrections"]:
        console.print(escape(_correction(correction)), highlight=False)
    for label in record["labels"]:
        told = ", ".join(filter(None, (label[name] for name in ("label", "source", "reader", "date"))))
        console.print(f"labelled {escape(told)}", highlight=False)
    for request in record["commitments"]:
        told = f"{request['calling_ae_title']} asked for commitment: {request['state']}"
        counts = f"{request['failed']} of {request['instances']} instances failed"
        console.print(escape(f"{told}, {counts}. {request['reason']}".rstrip()), highlight=False)
    for analysis in record["analyses"]:
        _print_analysis(console, analysis)


def _correction(correction: dict[str, Any]) -> str:
    said = ", ".join(
        f"{keyword} {value!r} instead of {correction['replaced'][keyword]!r}"
        for keyword, value in correction["attributes"].items()
    )
    return f"corrected from revision {correction['revision']} on: {said} (says {correction['source']})"


def _print_attributes(console: Console, record: dict[str, Any]) -> None:
    for name in (*_STUDY, "created_at", "changed_at", "files_deleted_at"):
        if record[name] or name not in _SELDOM:
            console.print(f"{name.replace('_', ' '):20} {escape(str(record[name]))}", highlight=False)
    if record["kept"]:
        console.print(f"{'files are kept':20} {escape('; '.join(record['kept']))}", highlight=False)


def _question(question: dict[str, Any]) -> str:
    """Say what a peer was asked, and what came of it."""
    wanted = "how many images it has" if question["kind"] == "count" else "for the missing images"
    line = f"revision {question['revision']}: {question['peer']} was asked {wanted}: {question['state']}"
    if question["expected"] is not None:
        line += f", {question['present']} of {question['expected']} were here"
    if question["details"]:
        line += f", {question['details']['completed']} came"
    return f"{line}. {question['reason']}".rstrip()


def _print_analysis(console: Console, analysis: dict[str, Any]) -> None:
    probability = analysis["probability"]
    figure = "" if probability is None else f", probability {probability:.3f}"
    limit = "" if analysis["threshold"] is None else f" (threshold {analysis['threshold']:.3f})"
    verdict = analysis["verdict"] or "no verdict yet"
    console.print(
        f"\n[bold]Revision {analysis['revision']}: {analysis['state']}, {verdict}{figure}{limit}[/]"
    )
    withdrawn = f"does not count any more: {analysis['withdrawn']}" if analysis["withdrawn"] else ""
    reading = analysis["reading"]
    corrected = f"corrected report: {reading['value']}, says reader {reading['reader']}" if reading else ""
    general = (withdrawn, corrected, analysis["completeness"], analysis["reason"])
    lines = [*general, *choice_of(analysis["details"])]
    for line in filter(None, dict.fromkeys(lines)):  # the reason is often one of the choice's
        console.print(f"  {escape(line)}", highlight=False)
    for line in bars(analysis["phases"]):
        console.print(f"  {line}", highlight=False)
    for output in analysis["outputs"]:
        console.print(f"  {output['group']:4} {output['path']}", highlight=False)
    for delivery in analysis["deliveries"]:
        after = "" if delivery["seconds"] is None else f" {delivery['seconds']:.2f} s after completion"
        sentence = f"  {delivery['group']:4} to {delivery['destination']}: {delivery['state']}{after}"
        more = " ".join(filter(None, (delivery["reason"], delivery["next_step"])))
        told = f"{sentence}. {more}" if more else sentence
        console.print(escape(told), highlight=False)


def choice_of(details: dict[str, Any]) -> list[str]:
    """Return the reasons for the series that was chosen."""
    choice = details.get("choice") or []
    return [str(reason) for reason in choice] if isinstance(choice, list) else [str(choice)]


def bars(phases: dict[str, Any]) -> list[str]:
    """Draw the seconds of each phase, the longest over the whole width."""
    seconds = {name: float(value) for name, value in phases.items() if isinstance(value, int | float)}
    longest = max(seconds.values(), default=0.0)
    return [
        f"{name:12} {value:8.2f} s {'█' * round(_BAR * value / longest) if longest else ''}"
        for name, value in seconds.items()
    ]
