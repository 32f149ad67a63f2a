"""What a source has and we have not: asked of DCMTK, which tells no numbers, of Orthanc, and of liars."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage, EnhancedSRStorage, SecondaryCaptureImageStorage

from daemon.pull.count import Counted, Held, Missing, count_images
from db.inquiries import HeldInstance
from lungnode.errors import UnusableError
from lungnode.scu.find import StudyMatch, querying
from lungnode.settings import Peer
from tests.orthanc import running_orthanc
from tests.query_peers import dcmtk_pacs, matches, scripted_pacs
from tests.spooling import STUDY, ct, slices, write

LUNG, SOFT, REPORTS, CAPTURES = (f"{STUDY}.{number}" for number in (1, 2, 3, 4))
OWN: Final = f"{REPORTS}.7"


def whole_study() -> list[Dataset]:
    """Two CT series of six and four images, a dose report, our own report, and a capture."""
    soft = [ct(n, SeriesInstanceUID=SOFT, SOPInstanceUID=f"{SOFT}.{n}") for n in range(1, 5)]
    dose = ct(1, SeriesInstanceUID=REPORTS, SOPInstanceUID=f"{REPORTS}.1", SOPClassUID=EnhancedSRStorage)
    own = ct(7, SeriesInstanceUID=REPORTS, SOPInstanceUID=OWN, SOPClassUID=EnhancedSRStorage)
    capture = ct(
        1,
        SeriesInstanceUID=CAPTURES,
        SOPInstanceUID=f"{CAPTURES}.1",
        SOPClassUID=SecondaryCaptureImageStorage,
    )
    dose.Modality = own.Modality = "SR"
    capture.Modality = "OT"
    return [*slices(range(1, 7)), *soft, dose, own, capture]


@pytest.fixture(scope="module", params=["dcmtk", "orthanc"])
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    folder = tmp_path_factory.mktemp(request.param)
    paths = []
    for number, ds in enumerate(whole_study()):
        paths.append(folder / f"{number}.dcm")
        write(ds, paths[-1])
    told: dict[str, Any] = {"name": "PACS", "host": "127.0.0.1", "query": "study_root"}
    if request.param == "dcmtk":
        with dcmtk_pacs(folder) as dcmtk:
            dcmtk.keep(*paths)
            yield Peer(ae_title="PACS", port=dcmtk.port, **told)
    else:
        with running_orthanc(folder) as orthanc:
            orthanc.keep(*paths)
            yield Peer(ae_title="ORTHANC", port=orthanc.dicom_port, **told)


def held(data_sets: Iterable[Dataset], own: Iterable[str] = ()) -> Held:
    """What we have, ours not among it."""
    return Held(
        (
            HeldInstance(
                str(ds.SeriesInstanceUID), str(ds.SOPInstanceUID), ds.SOPClassUID == ct().SOPClassUID
            )
            for ds in data_sets
        ),
        set(own),
    )


def counted(peer: Peer, ours: Held, *, begun_only: bool = False) -> Counted:
    with querying(peer, "LUNGNODE") as query:
        return count_images(query, StudyMatch(STUDY, "4711"), ours, begun_only=begun_only)


def test_a_whole_study_lacks_nothing(peer: Peer) -> None:
    assert counted(peer, held(whole_study())) == Counted(10)


def test_what_no_modality_sends_is_not_missing(peer: Peer) -> None:
    images = [ds for ds in whole_study() if ds.SOPClassUID == ct().SOPClassUID]

    assert counted(peer, held(images, {OWN})) == Counted(10)


def test_the_missing_images_of_each_series_are_named(peer: Peer) -> None:
    found = counted(peer, held(slices((1, 2, 3, 5))))

    assert found.present == 4
    assert set(found.missing) == {
        Missing(LUNG, 2, (f"{LUNG}.4", f"{LUNG}.6")),
        Missing(SOFT, 4, tuple(f"{SOFT}.{n}" for n in range(1, 5))),
    }
    assert found.expected == 10


def test_series_that_were_not_begun_can_be_left_out(peer: Peer) -> None:
    assert counted(peer, held(slices(range(1, 7))), begun_only=True) == Counted(6)
    assert counted(peer, held(slices(range(1, 6))), begun_only=True).expected == 6


def test_a_study_that_the_source_does_not_know_proves_nothing(peer: Peer) -> None:
    with (
        querying(peer, "LUNGNODE") as query,
        pytest.raises(UnusableError, match="knows 0 studies of this UID"),
    ):
        count_images(query, StudyMatch("1.2.3"), held(slices((1, 2))), begun_only=False)


def test_a_source_that_has_less_than_we_proves_nothing(peer: Peer) -> None:
    more = [*whole_study(), *slices(range(100, 110))]

    with pytest.raises(
        UnusableError, match=r"has 13 instances of the study, and we have 23|lacks 10 of the images"
    ):
        counted(peer, held(more))


class Liar:
    """A source that tells numbers of the study and of one series, and lists some images."""

    def __init__(
        self, study: Any = None, series: Any = None, images: Iterable[int] = (), image_status: int = 0
    ) -> None:
        self.study, self.series, self.images, self.image_status = study, series, images, image_status
        self.levels: list[str] = []

    def __call__(self, identifier: Dataset) -> Any:
        """Answer."""
        level = str(identifier.QueryRetrieveLevel)
        self.levels.append(level)
        if level == "STUDY":
            return matches({"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": self.study})
        if level == "SERIES":
            told = {
                "SeriesInstanceUID": LUNG,
                "Modality": "CT",
                "NumberOfSeriesRelatedInstances": self.series,
            }
            return matches(told)
        if self.image_status:
            return [(self.image_status, None)]
        return matches(*({"SOPInstanceUID": f"{LUNG}.{number}"} for number in self.images))


def asked(liar: Liar, ours: Held) -> Counted:
    with scripted_pacs(liar) as pacs:
        return counted(pacs.peer(), ours)


def test_one_question_is_enough_where_the_number_is_ours() -> None:
    honest = Liar(study=5)

    assert asked(honest, held(slices(range(1, 6)))) == Counted(5)
    assert honest.levels == ["STUDY"]


def test_images_are_not_listed_where_the_number_of_their_series_is_ours() -> None:
    honest = Liar(study=7, series=5)  # the other two are no CT

    assert asked(honest, held(slices(range(1, 6)))) == Counted(5)
    assert honest.levels == ["STUDY", "SERIES"]


@pytest.mark.parametrize("number", [0, 4])
def test_fewer_than_we_have_is_not_believed(number: int) -> None:
    with pytest.raises(UnusableError, match=f"has {number} instances of the study, and we have 5"):
        asked(Liar(study=number), held(slices(range(1, 6))))


@pytest.mark.parametrize("status", [0, 0xA900], ids=["lists nothing", "refuses to list"])
def test_a_source_that_does_not_list_is_still_counted(status: int) -> None:
    liar = Liar(series=8, image_status=status)

    assert asked(liar, held(slices(range(1, 6)))) == Counted(5, (Missing(LUNG, 3),))


def test_a_source_that_neither_counts_nor_lists_proves_nothing() -> None:
    with pytest.raises(UnusableError, match="lacks 5 of the images that we have"):
        asked(Liar(), held(slices(range(1, 6))))


@pytest.mark.parametrize(("told", "missing"), [("1.2.840.10008.5.1.4.1.1.7", 0), (None, 1)])
def test_a_capture_called_ct_is_wanted_only_where_its_class_is_not_told(
    told: str | None, missing: int
) -> None:
    def script(identifier: Dataset) -> Any:
        if identifier.QueryRetrieveLevel == "IMAGE":
            images = [{"SOPInstanceUID": f"{LUNG}.{n}", "SOPClassUID": CTImageStorage} for n in range(1, 6)]
            return matches(*images, {"SOPInstanceUID": f"{LUNG}.6", "SOPClassUID": told})
        return matches({"StudyInstanceUID": STUDY, "SeriesInstanceUID": LUNG, "Modality": "CT"})

    with scripted_pacs(script) as pacs:
        found = counted(pacs.peer(), held(slices(range(1, 6))))

    assert found.expected == 5 + missing


def test_our_own_results_are_never_missing_whatever_the_source_tells() -> None:
    def script(identifier: Dataset) -> Any:
        if identifier.QueryRetrieveLevel == "IMAGE":
            return matches(*({"SOPInstanceUID": f"{LUNG}.{n}"} for n in range(1, 6)), {"SOPInstanceUID": OWN})
        return matches({"StudyInstanceUID": STUDY, "SeriesInstanceUID": LUNG})  # no modality, no class

    with scripted_pacs(script) as pacs:
        assert counted(pacs.peer(), held(slices(range(1, 6)), {OWN})) == Counted(5)


def test_a_number_that_holds_our_own_results_is_not_taken_for_ours() -> None:
    reports = [ct(n, SeriesInstanceUID=REPORTS, SOPClassUID=EnhancedSRStorage) for n in (11, 12)]
    ours = held([*slices(range(1, 6)), *reports], {OWN})

    # Seven there: six images and our report. Seven here: five images and two reports that it has not.
    assert asked(Liar(study=7, series=6, images=range(1, 7)), ours).expected == 6


def test_two_answers_to_one_uid_prove_nothing() -> None:
    twice = {"StudyInstanceUID": STUDY, "NumberOfStudyRelatedInstances": 5}

    with (
        scripted_pacs(lambda _: matches(twice, twice)) as pacs,
        pytest.raises(UnusableError, match="knows 2 studies of this UID"),
    ):
        counted(pacs.peer(), held(slices(range(1, 6))))


def test_a_withdrawn_image_is_neither_wanted_nor_counted() -> None:
    ours = [HeldInstance(LUNG, f"{LUNG}.{n}", is_ct=True, is_withdrawn=n == 1) for n in range(1, 6)]

    assert asked(Liar(study=4), Held(ours, ())) == Counted(4)
    assert asked(Liar(study=5, images=range(1, 6)), Held(ours, ())) == Counted(4)
