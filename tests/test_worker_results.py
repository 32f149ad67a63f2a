"""Which outputs a destination gets."""

import pytest
from pydantic import ValidationError

from lungnode.settings import DicomDestination, FhirDestination, Hl7Destination
from tests.couriers import dimse
from worker.result import Verdict
from worker.results import groups_to_compose, wanted_groups


@pytest.mark.parametrize(
    ("settings", "groups"),
    [
        ({}, ("sr", "sc")),
        ({"outputs": ("sc", "sr")}, ("sc", "sr")),
        ({"outputs": ("pm",)}, ("pm",)),
        ({"outputs": ("sr", "kos", "sc"), "multi_frame": True}, ("sr", "kos", "sc-multi")),
        ({"report_classes": ("enhanced", "comprehensive")}, ("sr-enh", "sc")),
        ({"keep_character_set": True}, ("sr+src", "sc+src")),
    ],
)
def test_a_destination_gets_what_it_is_set_to_in_that_order(
    settings: dict[str, object], groups: tuple[str, ...]
) -> None:
    assert wanted_groups(dimse(104, **settings), Verdict.POSITIVE) == groups


RIS = Hl7Destination(name="ris", kind="hl7", host="h", port=2575)
EHR = FhirDestination(name="ehr", kind="fhir", url="https://fhir.example.org/r4", not_applicable=True)


@pytest.mark.parametrize("verdict", [Verdict.POSITIVE, Verdict.NEGATIVE, Verdict.ERROR])
def test_a_destination_of_messages_gets_one_of_each_study_that_was_tried(verdict: Verdict) -> None:
    assert wanted_groups(RIS, verdict) == ("hl7",)


def test_a_message_needs_a_report_even_where_nobody_else_wants_one() -> None:
    assert groups_to_compose([RIS], Verdict.NOT_APPLICABLE) == ()
    assert "sr" in groups_to_compose([EHR], Verdict.NOT_APPLICABLE)
    assert wanted_groups(EHR, Verdict.NOT_APPLICABLE) == ("fhir",)


ALL = dimse(104, outputs=("sr", "sc", "pm", "kos"))


@pytest.mark.parametrize(
    ("verdict", "groups"),
    [
        (Verdict.POSITIVE, ("sr", "sc", "pm", "kos")),
        (Verdict.UNDETERMINED, ("sr", "sc", "pm", "kos")),
        (Verdict.NEGATIVE, ("sr", "sc", "pm")),
        (Verdict.ERROR, ("sr",)),
        (Verdict.NOT_APPLICABLE, ()),
    ],
)
def test_what_there_is_to_send_depends_on_the_verdict(verdict: Verdict, groups: tuple[str, ...]) -> None:
    assert wanted_groups(ALL, verdict) == groups


def test_a_report_is_composed_in_every_class_whatever_a_destination_prefers() -> None:
    picky = dimse(104, outputs=("sr",), report_classes=("enhanced",))

    assert set(groups_to_compose([picky], Verdict.POSITIVE)) == {"sr", "sr-comp", "sr-enh", "sc"}


@pytest.mark.parametrize(
    "settings",
    [
        {"outputs": ()},
        {"outputs": ("sr", "sr")},
        {"outputs": ("pdf",)},
        {"report_classes": ("enhanced", "enhanced")},
    ],
)
def test_nonsense_is_refused_when_settings_are_read(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        DicomDestination.model_validate(
            {"name": "PACS", "ae_title": "PACS", "host": "h", "port": 104} | settings
        )
