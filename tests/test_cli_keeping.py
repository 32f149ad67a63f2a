from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from db.label_policy import DEFAULT_POLICY
from db.models import AuditEvent, Correction, Study
from db.session import transaction
from db.test_sets import training_studies
from lungnode.settings import Settings
from tests.command_line import CommandLine, Result
from tests.databases import new_sqlite
from tests.retaining import MONTH_S, change, files, keep_for, settle, sweep
from tests.spooling import STUDY, ClerkNode

Run = Callable[..., Result]
OTHER = "1.2.840.99999.2"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[ClerkNode]:
    """A node with two settled studies, of which one is labelled."""
    settings = Settings(data=tmp_path / "data")
    engine = new_sqlite(settings.database)
    node = ClerkNode(engine, settings)
    settle(node)
    settle(node, OTHER)
    yield node
    engine.dispose()


@pytest.fixture
def lungnode(command_line: CommandLine, node: ClerkNode) -> Run:
    """The command line of the node, whose settings allow a day."""
    config = node.settings.data / "lungnode.toml"
    config.write_text("[retention]\ndays = 1\n")
    return partial(command_line.run, node.settings.data, "--config", config)


def test_what_would_go_and_what_stays_is_told_without_deleting(node: ClerkNode, lungnode: Run) -> None:
    lungnode("labels", "set", OTHER, "positive", "--source", "rt-pcr")
    before = files(node)

    told = lungnode("studies", "retention", "--json").document
    page = lungnode("studies", "retention").stdout

    why = "retention: no new instance for 1 day"
    assert told["due"] == [{"study_instance_uid": STUDY, "why": why}]
    assert told["kept"] == [{"study_instance_uid": OTHER, "why": why, "reasons": ["it is labelled"]}]
    assert told["bytes"] == sum(
        (node.settings.data / path).stat().st_size for path in before if not path.startswith("cache")
    )
    assert f"goes   {STUDY} ({why})\nstays  {OTHER}: it is labelled" in page
    assert files(node) == before


def test_a_hold_keeps_a_study_until_it_is_released(node: ClerkNode, lungnode: Run) -> None:
    assert lungnode("studies", "hold", STUDY, "case 7").returncode == 0
    keep_for(node, 30)

    assert sweep(node) == [OTHER]
    refusal = lungnode("studies", "delete", STUDY, "--yes", "--force")
    assert refusal.returncode == 1
    assert refusal.stderr == f"lungnode: Study {STUDY} is on hold (case 7); release it first.\n"
    shown = lungnode("studies", "show", STUDY, "--json").document
    assert (shown["hold"], shown["kept"]) == ("case 7", ["it is on hold"])

    assert lungnode("studies", "release", STUDY).returncode == 0
    assert sweep(node, 0) == [STUDY]
    actions = [row.action for row in node.rows(AuditEvent)][-4:]
    assert actions == ["study held", "files deleted", "study released", "files deleted"]


def test_a_study_without_files_says_so_and_is_neither_exported_nor_analysed_nor_held(
    node: ClerkNode, lungnode: Run, tmp_path: Path
) -> None:
    keep_for(node, 30)
    sweep(node, MONTH_S)

    shown = lungnode("studies", "show", STUDY, "--json").document
    page = lungnode("studies", "show", STUDY).stdout
    assert shown["files_deleted_at"] == node.clock().isoformat()
    assert "files deleted by     retention: no new instance for 30 days" in page
    assert "Revision 1: done, positive" in page
    rule = lungnode("check", "--study", STUDY).stderr
    assert rule == f"lungnode: No file of study {STUDY} is left (retention: no new instance for 30 days).\n"
    for arguments in (("export", STUDY, str(tmp_path / "out")), ("reanalyse", STUDY), ("hold", STUDY, "x")):
        refusal = lungnode("studies", *arguments)
        assert refusal.returncode == 1
        assert "are deleted (retention: no new instance for 30 days)" in refusal.stderr


def test_a_label_of_a_study_without_files_is_not_trained_with(node: ClerkNode, lungnode: Run) -> None:
    keep_for(node, 30)
    sweep(node, MONTH_S)
    assert lungnode("labels", "set", STUDY, "positive", "--source", "rt-pcr").returncode == 0

    with transaction(node.engine) as session:
        parts = training_studies(session, DEFAULT_POLICY)

    assert [study.study_instance_uid for study in parts.unready] == [STUDY]
    assert parts.usable == ()


def test_a_patient_is_corrected_by_a_command_and_shown_with_what_was_before(lungnode: Run) -> None:
    result = lungnode("studies", "correct", STUDY, "--patient-id", "4712", "--patient-name", "Doe^Joan")
    again = lungnode("studies", "correct", STUDY, "--patient-id", "4712")

    assert result.stdout == (
        f"Study {STUDY} is corrected. Its results so far do not count any more; a new revision follows.\n"
    )
    assert again.stdout == f"Study {STUDY} says all of this already.\n"
    shown = lungnode("studies", "show", STUDY, "--json").document
    (correction,) = shown["corrections"]
    assert correction["attributes"] == {"PatientID": "4712", "PatientName": "Doe^Joan"}
    assert correction["replaced"] == {"PatientID": "4711", "PatientName": "Doe^Jane"}
    assert correction["source"].startswith("the account ")
    assert shown["analyses"][0]["withdrawn"] == "The patient was corrected: PatientID, PatientName."
    page = lungnode("studies", "show", STUDY).stdout
    assert "corrected from revision 2 on: PatientID '4712' instead of '4711', PatientName" in page
    assert "does not count any more: The patient was corrected" in page


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ((), "Name what is corrected"),
        (("--sex", "W"), "Patient's Sex is M, F or O"),
        (("--birth-date", "1961"), "cannot stand in PatientBirthDate"),
        (("--patient-id", "4\\711"), "cannot stand in PatientID"),
        (("--accession", "A" * 17), "cannot stand in AccessionNumber"),
    ],
    ids=["nothing", "sex", "date", "ID", "accession"],
)
def test_a_correction_that_no_attribute_can_hold_is_wrong_use(
    node: ClerkNode, lungnode: Run, options: tuple[str, ...], sentence: str
) -> None:
    result = lungnode("studies", "correct", STUDY, *options)

    assert result.returncode == 2
    assert sentence in " ".join(result.stderr.replace("│", " ").split())
    assert node.rows(Correction) == []


def test_a_copy_as_received_says_that_the_patient_was_corrected(lungnode: Run, tmp_path: Path) -> None:
    lungnode("studies", "correct", STUDY, "--patient-id", "4712")

    result = lungnode("studies", "export", STUDY, tmp_path / "out")

    assert result.returncode == 0
    assert "as it was received; its patient was corrected since (PatientID)" in result.stderr


def test_a_study_whose_slices_are_all_withdrawn_is_not_analysed_again(node: ClerkNode, lungnode: Run) -> None:
    change(node, Study, state="withdrawn")

    result = lungnode("studies", "reanalyse", STUDY)

    assert result.stderr == (
        f"lungnode: All slices of study {STUDY} are withdrawn; nothing is left to analyse.\n"
    )
