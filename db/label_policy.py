"""How the labels of a study become the one it is trained with: pure functions, named in the recipe.

A policy never guesses: where its labels contradict each other it returns a conflict with its reason, and the
study is left out of the training until somebody settles it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from db.models import LabelSource, LabelValue
from lungnode.errors import UnusableError

DEFAULT_POLICY: Final = "rt-pcr-first"


@dataclass(frozen=True)
class Opinion:
    """What one reader or test says of a study."""

    value: LabelValue
    source: LabelSource
    reader: str = ""
    labelled_on: str = ""  # YYYY-MM-DD; without a date it counts as older than every dated one
    symptomatic: bool | None = None  # of the patient at that time; None where nobody says

    @property
    def is_certain(self) -> bool:
        """Tell whether it says positive or negative."""
        return self.value != LabelValue.UNCERTAIN


@dataclass(frozen=True)
class Ruling:
    """What a policy makes of a study's labels: a value, a conflict, or neither."""

    value: LabelValue | None = None  # positive or negative
    decided_by: str = ""  # the source that decided; the policy's name where several did
    dissent: int = 0  # certain labels that say the opposite and were overruled
    conflict: str = ""  # why there is no value although labels are certain


Opinions = Sequence[Opinion]
Policy = Callable[[Opinions], Ruling]


def rule(policy: str, opinions: Opinions) -> Ruling:
    """Return what the named policy makes of the labels of one study.

    Raises:
        UnusableError: There is no such policy.
    """
    return policy_named(policy)(opinions)


def policy_named(name: str) -> Policy:
    """Return a policy by the name that recipes use.

    Raises:
        UnusableError: There is no such policy.
    """
    if name not in POLICIES:
        raise UnusableError(f"There is no label policy {name!r}; there are {', '.join(POLICIES)}.")
    return POLICIES[name]


def rt_pcr_first(opinions: Opinions) -> Ruling:
    """RT-PCR decides, else the clinical diagnosis, else the readers' majority, else what was imported."""
    order = (LabelSource.RT_PCR, LabelSource.CLINICAL, LabelSource.READER, LabelSource.IMPORT)
    return _first_that_speaks(order, opinions)


def clinical_first(opinions: Opinions) -> Ruling:
    """As `rt-pcr-first`, with the clinical diagnosis before RT-PCR.

    Source: the paper's table 4, where RT-PCR missed 22 of 48 patients that the diagnosis confirmed.
    """
    order = (LabelSource.CLINICAL, LabelSource.RT_PCR, LabelSource.READER, LabelSource.IMPORT)
    return _first_that_speaks(order, opinions)


def majority(opinions: Opinions) -> Ruling:
    """Every label is a vote, whatever its source; a reader has one, the latest."""
    return _vote(_current(opinions), opinions, "majority")


def readers_only(opinions: Opinions) -> Ruling:
    """The readers' majority; labels of other sources are not looked at."""
    return _first_that_speaks((LabelSource.READER,), [o for o in opinions if o.source == LabelSource.READER])


def unanimous(opinions: Opinions) -> Ruling:
    """All labels say the same; an uncertain one beside a certain one is a conflict."""
    values = {opinion.value for opinion in opinions}
    if values <= {LabelValue.UNCERTAIN}:
        return Ruling()
    if len(values) > 1:
        return Ruling(conflict=f"not unanimous: {_counted(opinions)}")
    return Ruling(values.pop(), "unanimous")


POLICIES: Final[Mapping[str, Policy]] = {
    DEFAULT_POLICY: rt_pcr_first,
    "clinical-first": clinical_first,
    "majority": majority,
    "readers-only": readers_only,
    "unanimous": unanimous,
}


def _first_that_speaks(order: Sequence[LabelSource], opinions: Opinions) -> Ruling:
    """Let the first source with a certain label decide; readers outvote each other, all others must agree."""
    current = _current(opinions)
    for source in order:
        heard = [opinion for opinion in current if opinion.source == source and opinion.is_certain]
        if not heard:
            continue
        if source != LabelSource.READER and len({opinion.value for opinion in heard}) > 1:
            return Ruling(conflict=f"{source} contradicts itself: {_counted(heard)}")
        return _vote(heard, opinions, source)
    return Ruling()


def _vote(votes: Opinions, opinions: Opinions, decided_by: str) -> Ruling:
    """Return what more of the certain votes say; a tie is a conflict."""
    counts = Counter(vote.value for vote in votes if vote.is_certain)
    positive, negative = counts[LabelValue.POSITIVE], counts[LabelValue.NEGATIVE]
    if not counts:
        return Ruling()
    if positive == negative:
        return Ruling(conflict=f"{decided_by} is tied: {_counted(votes)}")
    value = LabelValue.POSITIVE if positive > negative else LabelValue.NEGATIVE
    dissent = sum(opinion.is_certain and opinion.value != value for opinion in opinions)
    return Ruling(value, decided_by, dissent)


def _current(opinions: Opinions) -> list[Opinion]:
    """Leave out what the same reader has said before; tests are repeated, not corrected, so all stay."""
    latest: dict[object, Opinion] = {}
    for number, opinion in enumerate(sorted(opinions, key=lambda each: each.labelled_on)):
        key = number if opinion.source == LabelSource.RT_PCR else (opinion.source, opinion.reader)
        latest[key] = opinion
    return list(latest.values())


def _counted(opinions: Opinions) -> str:
    counts = Counter(opinion.value for opinion in opinions)
    return ", ".join(f"{counts[value]} {value}" for value in LabelValue if counts[value])
