from typing import cast

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.coding import Code

from lungnode import codes
from lungnode.audit import codes as audit_codes

OURS = {name: value for name, value in vars(codes).items() if isinstance(value, Code)}
OURS |= {
    name: Code(value.value, value.scheme, value.meaning)
    for name, value in vars(audit_codes).items()
    if isinstance(value, audit_codes.Code)
}
# Not in pydicom's copy: SNOMED CT and UCUM are larger than what PS3.16 lists, and the RFCs are not in it.
LITERAL = {
    "COVID_19": ("840539006", "SCT"),
    "RATIO": ("{0:1}", "UCUM"),
    "PIXELS": ("{pixels}", "UCUM"),
    "ENGLISH": ("en-US", "RFC5646"),
    "PATIENT_NUMBER": ("2", "RFC-3881"),
    "USER_IDENTIFIER": ("11", "RFC-3881"),
    "URI": ("12", "RFC-3881"),
}


@pytest.mark.parametrize("name", sorted(OURS.keys() - LITERAL.keys()))
def test_each_code_stands_in_the_dictionary_with_its_meaning(name: str) -> None:
    code = OURS[name]

    known = cast("dict[str, dict[str, tuple[str, list[int]]]]", concepts[code.scheme_designator])
    meanings = [coded[code.value][0] for coded in known.values() if code.value in coded]

    assert code.meaning in meanings or any(meaning.startswith(f"{code.meaning} (") for meaning in meanings)


@pytest.mark.parametrize("name", sorted(LITERAL))
def test_the_codes_that_no_dictionary_holds_are_these(name: str) -> None:
    assert (OURS[name].value, OURS[name].scheme_designator) == LITERAL[name]


def test_codes_of_other_organs_are_not_among_ours() -> None:
    # 111047 is the probability of cancer, 111413 belongs to breast imaging.
    assert not {"111047", "111413"} & {code.value for code in OURS.values()}
