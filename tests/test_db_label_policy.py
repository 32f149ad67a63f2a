import pytest

from db.label_policy import POLICIES, Opinion, Ruling, rule
from db.models import LabelSource, LabelValue
from lungnode.errors import UnusableError
from lungnode.recipe import Recipe

POSITIVE, NEGATIVE, UNCERTAIN = LabelValue.POSITIVE, LabelValue.NEGATIVE, LabelValue.UNCERTAIN


def pcr(value: LabelValue, labelled_on: str = "") -> Opinion:
    return Opinion(value, LabelSource.RT_PCR, labelled_on=labelled_on)


def clinical(value: LabelValue, labelled_on: str = "") -> Opinion:
    return Opinion(value, LabelSource.CLINICAL, labelled_on=labelled_on)


def reader(name: str, value: LabelValue, labelled_on: str = "") -> Opinion:
    return Opinion(value, LabelSource.READER, name, labelled_on)


def imported(value: LabelValue) -> Opinion:
    return Opinion(value, LabelSource.IMPORT)


def test_the_recipes_default_policy_exists() -> None:
    assert Recipe(name="x").data.label_policy in POLICIES


def test_an_unknown_policy_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(
        UnusableError, match="no label policy 'loudest'; there are rt-pcr-first, clinical-first"
    ):
        rule("loudest", [pcr(POSITIVE)])


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_makes_a_label_of_nothing_or_of_doubt(policy: str) -> None:
    assert rule(policy, []) == Ruling()
    assert rule(policy, [reader("a", UNCERTAIN), reader("b", UNCERTAIN)]) == Ruling()


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_agrees_with_readers_who_agree(policy: str) -> None:
    assert rule(policy, [reader("a", NEGATIVE), reader("b", NEGATIVE)]).value == NEGATIVE


@pytest.mark.parametrize(
    ("opinions", "value", "decided_by", "dissent"),
    [
        (
            [imported(POSITIVE), reader("a", POSITIVE), clinical(POSITIVE), pcr(NEGATIVE)],
            NEGATIVE,
            "rt-pcr",
            3,
        ),
        ([imported(NEGATIVE), reader("a", NEGATIVE), clinical(POSITIVE)], POSITIVE, "clinical", 2),
        ([imported(NEGATIVE), reader("a", POSITIVE)], POSITIVE, "reader", 1),
        ([imported(NEGATIVE)], NEGATIVE, "import", 0),
        ([pcr(UNCERTAIN), clinical(POSITIVE)], POSITIVE, "clinical", 0),
    ],
)
def test_rt_pcr_decides_then_the_diagnosis_then_readers_then_what_was_imported(
    opinions: list[Opinion], value: LabelValue, decided_by: str, dissent: int
) -> None:
    assert rule("rt-pcr-first", opinions) == Ruling(value, decided_by, dissent)


def test_the_diagnosis_overrules_a_false_negative_test_where_the_policy_says_so() -> None:
    opinions = [pcr(NEGATIVE), clinical(POSITIVE)]

    assert rule("clinical-first", opinions) == Ruling(POSITIVE, "clinical", dissent=1)


def test_tests_that_contradict_each_other_are_a_conflict_whatever_their_dates() -> None:
    opinions = [pcr(NEGATIVE, "2020-02-01"), pcr(POSITIVE, "2020-02-04"), reader("a", POSITIVE)]

    ruling = rule("rt-pcr-first", opinions)

    assert (ruling.value, ruling.conflict) == (None, "rt-pcr contradicts itself: 1 positive, 1 negative")


def test_readers_outvote_each_other_and_a_tie_is_a_conflict() -> None:
    two = [reader("a", POSITIVE), reader("b", NEGATIVE)]

    assert rule("readers-only", [*two, reader("c", POSITIVE)]) == Ruling(POSITIVE, "reader", dissent=1)
    assert rule("readers-only", two) == Ruling(conflict="reader is tied: 1 positive, 1 negative")
    assert rule("rt-pcr-first", two).conflict == rule("readers-only", two).conflict


def test_an_uncertain_reader_abstains_from_a_vote() -> None:
    opinions = [reader("a", POSITIVE), reader("b", UNCERTAIN), reader("c", UNCERTAIN)]

    assert rule("readers-only", opinions).value == POSITIVE


def test_of_a_reader_who_read_again_the_latest_counts() -> None:
    changed_mind = [
        reader("a", POSITIVE, "2020-02-09"),
        reader("a", NEGATIVE, "2020-02-01"),
        reader("a", NEGATIVE),
    ]

    assert rule("majority", changed_mind).value == POSITIVE
    assert rule("majority", [*changed_mind, reader("b", NEGATIVE)]).conflict == (
        "majority is tied: 1 positive, 1 negative"
    )


def test_readers_only_hears_nobody_else() -> None:
    assert rule("readers-only", [pcr(POSITIVE), clinical(POSITIVE), imported(POSITIVE)]) == Ruling()


def test_the_majority_counts_every_source() -> None:
    assert rule("majority", [pcr(NEGATIVE), clinical(POSITIVE), reader("a", POSITIVE)]) == Ruling(
        POSITIVE, "majority", dissent=1
    )


def test_unanimous_bears_no_other_word_and_no_doubt() -> None:
    assert rule("unanimous", [pcr(POSITIVE), reader("a", POSITIVE)]) == Ruling(POSITIVE, "unanimous")
    assert rule("unanimous", [pcr(POSITIVE), reader("a", NEGATIVE)]).conflict == (
        "not unanimous: 1 positive, 1 negative"
    )
    assert rule("unanimous", [pcr(POSITIVE), reader("a", UNCERTAIN)]).conflict == (
        "not unanimous: 1 positive, 1 uncertain"
    )
