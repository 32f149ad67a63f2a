"""Compares what a peer has of a study with what we have, in as few questions as the peer's answers allow."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from db.inquiries import CT_CLASSES, HeldInstance
from lungnode.errors import UnusableError
from lungnode.scu.association import describe
from lungnode.scu.find import Query, SeriesMatch, StudyMatch, is_ct


@dataclass(frozen=True)
class Missing:
    """CT images of one series that the peer has and we have not."""

    series_instance_uid: str
    count: int
    sop_instance_uids: tuple[str, ...] = ()  # empty: the peer does not tell them


@dataclass(frozen=True)
class Counted:
    """How many CT images we have, and what is missing."""

    present: int
    missing: tuple[Missing, ...] = ()

    @property
    def expected(self) -> int:
        """How many CT images the peer has."""
        return self.present + sum(each.count for each in self.missing)


class Held:
    """What we have of a study."""

    def __init__(self, instances: Iterable[HeldInstance], own: Collection[str]) -> None:
        self.own = frozenset(own)
        self.uids: set[str] = set()
        self.images: dict[str, set[str]] = {}
        self._by_series: dict[str, set[str]] = {}
        for each in instances:
            self.uids.add(each.sop_instance_uid)
            if each.is_withdrawn:
                continue
            self._by_series.setdefault(each.series_instance_uid, set()).add(each.sop_instance_uid)
            if each.is_ct:
                self.images.setdefault(each.series_instance_uid, set()).add(each.sop_instance_uid)

    @property
    def image_uids(self) -> set[str]:
        """SOP Instance UIDs of all CT images."""
        return set().union(*self.images.values())

    @property
    def total(self) -> int:
        """How many instances there are that the peer should have, too."""
        return sum(len(uids) for uids in self._by_series.values())

    def in_series(self, series_instance_uid: str) -> set[str]:
        """SOP Instance UIDs of a series, whatever their class."""
        return self._by_series.get(series_instance_uid, set())


def count_images(query: Query, study: StudyMatch, held: Held, *, begun_only: bool) -> Counted:
    """Compare the CT images of a study.

    Number of Study Related Instances decides where it equals what we have. It counts our own results, too,
    and what no modality sends: where it differs, the CT series are counted, and listed where that differs.

    Args:
        query: An association with the peer.
        study: Which study; its Patient ID is needed in the Patient Root model.
        held: What we have.
        begun_only: Leave out series of which we have no image.

    Raises:
        UnusableError: The answers prove nothing: the peer has less than we have, or no such study.
        UnavailableError: The peer does not answer for now.
    """
    told = _instances_in_study(query, study)
    if told is not None and told < held.total:
        raise _worthless(query, f"has {told} instances of the study, and we have {held.total}")
    images = held.image_uids
    if told == held.total and not held.own:
        return Counted(len(images))
    missing, theirs = [], set()
    for series in query.series(study.study_instance_uid, study.patient_id):
        if is_ct(series) and (not begun_only or series.series_instance_uid in held.images):
            more, known = _compare(query, study, series, held)
            missing += more
            theirs |= known
    if not missing and images - theirs:
        raise _worthless(query, f"lacks {len(images - theirs)} of the images that we have")
    return Counted(len(images), tuple(missing))


def _instances_in_study(query: Query, study: StudyMatch) -> int | None:
    keys = {"StudyInstanceUID": study.study_instance_uid}
    if query.peer.query == "patient_root":
        keys["PatientID"] = study.patient_id
    found = query.studies(keys)
    if len(found) != 1:
        raise _worthless(query, f"knows {len(found)} studies of this UID")
    return found[0].instances


def _compare(
    query: Query, study: StudyMatch, series: SeriesMatch, held: Held
) -> tuple[list[Missing], set[str]]:
    """Return what is missing of a series, and what of our images the peer has, too."""
    uid = series.series_instance_uid
    ours = held.in_series(uid)
    if series.instances == len(ours) and ours:
        return [], held.images.get(uid, set())
    try:
        listed = query.instances(study.study_instance_uid, uid, study.patient_id)
    except UnusableError:  # some peers know no level below the series: counting must do
        listed = []
    if not listed:
        more = (series.instances or 0) - len(ours)
        return [Missing(uid, more)] if more > 0 else [], held.images.get(uid, set()) if more >= 0 else set()
    theirs = {each.sop_instance_uid for each in listed if each.sop_class_uid in ("", *CT_CLASSES)}
    lacking = theirs - held.uids - held.own
    missing = [Missing(uid, len(lacking), tuple(sorted(lacking)))] if lacking else []
    return missing, theirs & held.uids


def _worthless(query: Query, what: str) -> UnusableError:
    return UnusableError(f"{describe(query.peer)} {what}.")
