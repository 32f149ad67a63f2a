"""How labels and test sets are shown: as JSON, as a table."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from db.labels import LabelledStudy
    from db.models import Study
    from db.test_sets import FrozenSet


def labelled_record(study: "LabelledStudy", frozen: Collection[str]) -> dict[str, Any]:
    """Return a study with its labels, what the policy makes of them, and whether it is frozen, as JSON."""
    from db.labels import described  # noqa: PLC0415 - when called

    ruling = study.ruling
    return {
        "study_instance_uid": study.study_instance_uid,
        "training_label": ruling.value,
        "decided_by": ruling.decided_by,
        "dissent": ruling.dissent,
        "conflict": ruling.conflict,
        "ready": study.is_ready,
        "frozen": study.patient in frozen,
        "labels": [described(opinion) for opinion in study.opinions],
    }


def unlabelled_record(study: "Study", frozen: Collection[str]) -> dict[str, Any]:
    """Return a study that has no label as JSON."""
    from db.labels import patient_of  # noqa: PLC0415 - when called

    identified = {
        name: getattr(study, name) for name in ("study_instance_uid", "accession_number", "study_date")
    }
    return identified | {"frozen": patient_of(study) in frozen, "labels": []}


def counts_of(studies: "Sequence[LabelledStudy]") -> dict[str, int]:
    """Count what the policy makes of the labelled studies."""
    counts = Counter(
        study.ruling.value or ("conflict" if study.ruling.conflict else "undecided") for study in studies
    )
    counted = {name: counts[name] for name in ("positive", "negative", "conflict", "undecided")}
    return counted | {"overruled": sum(study.ruling.dissent > 0 for study in studies)}


def print_studies(console: Console, document: dict[str, Any]) -> None:
    """Print a line a label, and what the policy makes of the study at its first."""
    table = Table("Study", "Training label", "Label", "Source", "Reader", "Date", "Symptoms", "Test set")
    symptoms = {True: "yes", False: "no", None: ""}
    for record in document["studies"]:
        conflict = record.get("conflict")
        ruling = f"conflict: {conflict}" if conflict else record.get("training_label") or ""
        head = [record["study_instance_uid"], ruling]
        tail = "frozen" if record["frozen"] else ""
        for said in record["labels"] or [{}]:
            cells = [said.get(name, "") for name in ("label", "source", "reader", "date")]
            table.add_row(*map(escape, (*head, *cells, symptoms[said.get("symptomatic")], tail)))
            head, tail = ["", ""], ""
    console.print(table)
    counts = document["counts"]
    console.print(
        f"By {document['policy']}: {counts['positive']} positive, {counts['negative']} negative, "
        f"{counts['conflict']} in conflict, {counts['undecided']} undecided; "
        f"{counts['overruled']} against another label.",
        highlight=False,
    )


def test_set_record(frozen: "FrozenSet", *, with_studies: bool) -> dict[str, Any]:
    """Return a test set as JSON, on request with its studies."""
    values = Counter(str(study.value) for study in frozen.studies)
    record = {
        "name": frozen.name,
        "digest": frozen.digest,
        "intact": frozen.is_intact,
        "created_at": frozen.created_at.isoformat(),
        "patients": len(frozen.patients),
        "studies": len(frozen.studies),
        "positive": values["positive"],
        "negative": values["negative"],
    }
    if with_studies:
        studies = [{"study_instance_uid": s.study_instance_uid, "label": s.value} for s in frozen.studies]
        record["members"] = studies
    return record


def print_test_sets(console: Console, records: list[dict[str, Any]]) -> None:
    """Print a line a test set."""
    table = Table("Test set", "Frozen", "Patients", "Studies", "Positive", "Negative", "SHA-256", "Intact")
    for record in records:
        figures = [str(record[name]) for name in ("patients", "studies", "positive", "negative")]
        intact = "yes" if record["intact"] else "no"
        table.add_row(escape(record["name"]), record["created_at"][:19], *figures, record["digest"], intact)
    console.print(table)
