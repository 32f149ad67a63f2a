import pytest

from lungnode.errors import SettingsError
from lungnode.rules import DEFAULT_RULE, Facts, destinations_of, first_match, keywords_of, rule_named
from lungnode.settings import DicomDestination, Rule, Settings

FACTS = Facts(
    calling_ae_title="CT_01",
    called_ae_title="LUNGNODE",
    address="192.0.2.7",
    attributes={"StudyDescription": ("CT Thorax nativ",), "ImageType": ("ORIGINAL", "AXIAL")},
)


@pytest.mark.parametrize(
    "conditions",
    [
        {},
        {"calling_ae_title": "CT_01"},
        {"calling_ae_title": "CT_*"},
        {"calling_ae_title": "CT_?1"},
        {"called_ae_title": "LUNG*"},
        {"network": "192.0.2.0/24"},
        {"tags": {"StudyDescription": "*thorax*"}},
        {"tags": {"ImageType": "axial"}},
        {"tags": {"PatientComments": ""}},
        {"calling_ae_title": "CT*", "network": "192.0.2.7/32", "tags": {"StudyDescription": "CT*"}},
    ],
    ids=str,
)
def test_a_rule_is_met_when_all_its_conditions_hold(conditions: dict[str, object]) -> None:
    rule = Rule.model_validate({"name": "r", **conditions})

    assert first_match([rule], FACTS) == rule


@pytest.mark.parametrize(
    "conditions",
    [
        {"calling_ae_title": "CT"},
        {"calling_ae_title": "ct_01"},
        {"calling_ae_title": "CT_[0-9]1"},
        {"called_ae_title": "OTHER"},
        {"network": "198.51.100.0/24"},
        {"network": "2001:db8::/32"},
        {"tags": {"StudyDescription": "thorax"}},
        {"tags": {"BodyPartExamined": "CHEST"}},
        {"calling_ae_title": "CT*", "tags": {"StudyDescription": "*head*"}},
    ],
    ids=str,
)
def test_a_rule_is_not_met_when_one_condition_fails(conditions: dict[str, object]) -> None:
    rule = Rule.model_validate({"name": "r", **conditions})

    assert first_match([rule], FACTS) is None


def test_the_first_rule_that_is_met_counts() -> None:
    rules = [Rule(name="a", calling_ae_title="X"), Rule(name="b"), Rule(name="c", calling_ae_title="CT_01")]

    assert first_match(rules, FACTS) == rules[1]


def test_an_ipv4_peer_of_a_dual_stack_socket_is_in_its_ipv4_network() -> None:
    rule = Rule.model_validate({"name": "r", "network": "192.0.2.0/24"})

    assert first_match([rule], Facts(address="::ffff:192.0.2.7")) == rule


def test_an_unknown_address_is_in_no_network() -> None:
    rule = Rule.model_validate({"name": "r", "network": "0.0.0.0/0"})

    assert first_match([rule], Facts()) is None


def test_a_rule_that_is_gone_leaves_the_defaults() -> None:
    settings = Settings(rules=(Rule(name="a", priority=1),))

    assert rule_named(settings, "a").priority == 1
    assert rule_named(settings, "b") == DEFAULT_RULE
    assert rule_named(settings, "") == DEFAULT_RULE


def test_results_go_to_the_destinations_of_the_rule_or_to_all() -> None:
    pacs, archive = (
        DicomDestination(name=name, ae_title=name.upper(), host="127.0.0.1", port=104)
        for name in ("pacs", "archive")
    )
    rules = (Rule(name="one", destinations=("archive",)), Rule(name="none", destinations=()))
    settings = Settings(destinations=(pacs, archive), rules=rules)

    assert destinations_of(settings, "one") == (archive,)
    assert destinations_of(settings, "none") == ()
    assert destinations_of(settings, "") == (pacs, archive)


def test_a_rule_that_names_no_attribute_is_refused() -> None:
    assert keywords_of([Rule(name="r", tags={"StudyDescription": "*"})]) == {"StudyDescription"}
    with pytest.raises(SettingsError, match="Rule r: 'StudyDescripton' is no keyword"):
        keywords_of([Rule(name="r", tags={"StudyDescripton": "*"})])
