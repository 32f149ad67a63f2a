"""Which rule a study meets, and what follows from it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

from pydicom.datadict import tag_for_keyword

from lungnode.errors import SettingsError
from lungnode.settings import Destination, Network, Rule, Settings

DEFAULT_RULE: Final = Rule(name="default")


@dataclass(frozen=True)
class Facts:
    """What rules look at: who sent an instance, and its attributes by keyword."""

    calling_ae_title: str = ""
    called_ae_title: str = ""
    address: str = ""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # every value of each


def first_match(rules: Iterable[Rule], facts: Facts) -> Rule | None:
    """Return the first rule whose conditions all hold; None when there is none."""
    return next((rule for rule in rules if _matches(rule, facts)), None)


def rule_named(settings: Settings, name: str) -> Rule:
    """Return the rule that a study recorded; the default one when it met none or the rule is gone."""
    return next((rule for rule in settings.rules if rule.name == name), DEFAULT_RULE)


def destinations_of(settings: Settings, name: str) -> tuple[Destination, ...]:
    """Return where the results of a study go that recorded this rule."""
    chosen = rule_named(settings, name).destinations
    return tuple(each for each in settings.destinations if chosen is None or each.name in chosen)


def keywords_of(rules: Iterable[Rule]) -> frozenset[str]:
    """Return the attributes that the rules look at.

    Raises:
        SettingsError: A rule names an attribute that the Data Dictionary lacks.
    """
    found = set()
    for rule in rules:
        for keyword in rule.tags:
            if tag_for_keyword(keyword) is None:
                raise SettingsError(
                    f"Rule {rule.name}: {keyword!r} is no keyword of the DICOM Data Dictionary."
                )
            found.add(keyword)
    return frozenset(found)


def _matches(rule: Rule, facts: Facts) -> bool:
    return (
        like(rule.calling_ae_title, facts.calling_ae_title)
        and like(rule.called_ae_title, facts.called_ae_title)
        and _is_in(rule.network, facts.address)
        and all(
            _any_like(pattern, facts.attributes.get(keyword, ())) for keyword, pattern in rule.tags.items()
        )
    )


def _any_like(pattern: str, values: tuple[str, ...]) -> bool:
    # People type descriptions, so their case says nothing; an absent attribute is an empty one.
    return any(like(pattern.casefold(), value.casefold()) for value in values or ("",))


def like(pattern: str, value: str) -> bool:
    """Whether a value fits a pattern, in which * and ? stand for others."""
    # fnmatch gives brackets a meaning, and an AE title may hold them.
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, value, re.DOTALL) is not None


def _is_in(network: Network | None, address: str) -> bool:
    if network is None:
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)  # a dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d
    return (mapped or parsed) in network
