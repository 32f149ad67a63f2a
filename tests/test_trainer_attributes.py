"""What is known of a patient and a scan beside the label."""

import pytest
from pydicom import Dataset

from trainer.attributes import age_decade, listed_attributes, scan_attributes


def instance(**attributes: str) -> Dataset:
    ds = Dataset()
    for keyword, value in attributes.items():
        setattr(ds, keyword, value)
    return ds


@pytest.mark.parametrize(
    ("years", "decade"), [(0, "0-9"), (9, "0-9"), (10, "10-19"), (89, "80-89"), (90, "90+"), (104, "90+")]
)
def test_ages_are_told_by_their_decade_and_the_oldest_are_not_told_apart(years: int, decade: str) -> None:
    assert age_decade(years) == decade


def test_headers_tell_sex_age_maker_and_thickness() -> None:
    found = scan_attributes(
        instance(PatientSex="F", PatientAge="070Y", Manufacturer="GE MEDICAL SYSTEMS"), 1.25
    )

    assert found == {
        "sex": "F", "age": "70-79", "manufacturer": "GE", "slice_thickness_mm": "1.25"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("attributes", "decade"),
    [
        ({"PatientAge": "011M"}, "0-9"),
        ({"PatientBirthDate": "19600302", "StudyDate": "20200301"}, "50-59"),
        ({"PatientBirthDate": "19600302", "StudyDate": "20200302"}, "60-69"),
        ({"PatientBirthDate": "19600302"}, None),
        ({"PatientBirthDate": "20300101", "StudyDate": "20200302"}, None),
        ({}, None),
    ],
)
def test_an_age_that_is_not_told_follows_from_the_dates(
    attributes: dict[str, str], decade: str | None
) -> None:
    assert scan_attributes(instance(**attributes), None).get("age") == decade


def test_what_is_not_known_is_absent() -> None:
    assert scan_attributes(instance(PatientSex="", Manufacturer=" "), None) == {}


def test_lists_write_plain_years() -> None:
    assert listed_attributes({"age": " 41 ", "sex": "M", "city": ""}) == {"age": "40-49", "sex": "M"}
    assert listed_attributes({"age": "40-49"}) == {"age": "40-49"}
