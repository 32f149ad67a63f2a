"""The clerk asks the source of a study how many images there are, and fetches what is missing.

Sources are scripted here; DCMTK and Orthanc answer in the tests of counting, fetching and the whole node.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom import Dataset
from pydicom.uid import CTImageStorage
from pynetdicom import evt
from sqlalchemy import Engine

from daemon.clerk.dispatch import Dispatcher
from daemon.clerk.inquire import LEASE_S, Inquirer
from daemon.pull.retrieve import GET_MODELS
from db.erasure import delete_study
from db.models import Analysis, Inquiry, InquiryKind, InquiryState, StudyState
from db.queries import get_study
from db.session import transaction
from lungnode.queue import open_queue
from lungnode.scu.find import FIND_MODELS
from lungnode.settings import ClerkSettings, Peer, Rule, Settings
from tests.nodes import wait_for
from tests.query_peers import ScriptedPacs, matches, scripted_pacs, stored
from tests.spooling import STUDY, ClerkNode, ct, slices

OTHER = "1.2.840.99999.2"


def _set(event: Event) -> Event:
    event.set()
    return event


@dataclass
class Source:
    """A PACS that has these slices of every study, and tells whatever number a test says."""

    has: int = 0
    tells: Any = None  # instead of that; DCMTK tells none
    status: int = 0  # when not 0, all it answers
    sends: int | None = None  # how many instances before it fails
    speaks: Event = field(default_factory=lambda: _set(Event()))
    retrievals: list[list[str]] = field(default_factory=list)

    def script(self, identifier: Dataset) -> Any:
        """Answer a C-FIND."""
        self.speaks.wait(30)
        if self.status:
            return [(self.status, None)]
        study = str(identifier.StudyInstanceUID)
        if identifier.QueryRetrieveLevel == "STUDY":
            told = self.has if self.tells is None else self.tells
            return matches({"StudyInstanceUID": study, "NumberOfStudyRelatedInstances": told})
        if identifier.QueryRetrieveLevel == "SERIES":
            return matches({"SeriesInstanceUID": f"{study}.1", "Modality": "CT"})
        return matches(*({"SOPInstanceUID": f"{study}.1.{n}"} for n in range(1, self.has + 1)))

    def on_get(self, event: evt.Event) -> Iterator[Any]:
        """Send what a C-GET names."""
        study = str(event.identifier.StudyInstanceUID)
        uids = event.identifier.SOPInstanceUID
        wanted = [uids] if isinstance(uids, str) else list(uids)
        self.retrievals.append(wanted)
        yield len(wanted)
        for uid in wanted[: self.sends]:
            yield 0xFF00, stored(int(uid.rpartition(".")[2]), study=study)
        if self.sends is not None:
            yield 0xA702, None


@contextmanager
def running(source: Source) -> Iterator[ScriptedPacs]:
    classes = (FIND_MODELS["study_root"], GET_MODELS["study_root"], CTImageStorage)
    with scripted_pacs(source.script, *classes, handlers=[(evt.EVT_C_GET, source.on_get)]) as pacs:
        yield pacs


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """What is asked knows no dialect but for its queries, which have tests of their own."""
    return f"sqlite:///{tmp_path / 'lungnode.sqlite3'}"


@dataclass
class Asking:
    """A clerk whose questions are asked while the test waits."""

    node: ClerkNode
    pacs: ScriptedPacs
    inquirer: Inquirer

    def after(self, seconds: float) -> list[int]:
        """Let time pass, ask what is due, and let the clerk judge; returns the analyses that it queued."""
        self.node.clock.pass_s(seconds)
        queued = self.node.clerk.round()
        self.inquirer.round()
        self.inquirer.wait()
        return queued + self.node.clerk.round()

    def inquiries(self) -> dict[str, Inquiry]:
        """What was asked of the only study, by kind."""
        return {row.kind: row for row in self.node.rows(Inquiry)}


@contextmanager
def asking(node: ClerkNode, source: Source, **peer: Any) -> Iterator[Asking]:
    """A clerk that may ask the source; it sent the study itself, unless the test says otherwise."""
    with running(source) as pacs:
        told = {"ae_title": "PACS", "answers_for": ["SCANNER"]}
        restarted(node, pacs.peer(**told | peer))
        yield Asking(node, pacs, Inquirer(node.engine, node.settings, node.clock))


def restarted(node: ClerkNode, peer: Peer, **clerk: Any) -> None:
    node.restart(peers=(peer,), clerk=ClerkSettings(**clerk))


def test_a_count_that_is_reached_completes_the_study_at_once(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(has=5)) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        assert asked.after(4.9) == []
        assert asked.pacs.asked == []

        (analysis_id,) = asked.after(0.1)

    study, (analysis,) = clerk_node.study(), clerk_node.rows(Analysis)
    assert (study.state, study.completeness) == (StudyState.COMPLETE, "complete: 5 of 5 by query at PACS")
    assert (analysis.id, analysis.completeness) == (analysis_id, study.completeness)


def test_more_at_the_source_lengthens_the_quiet_period_and_is_told(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(has=8)) as asked:
        clerk_node.receive(*slices(range(1, 6)))

        assert [asked.after(seconds) for seconds in (5, 25, 89)] == [[], [], []]
        assert len(asked.after(1)) == 1

    assert clerk_node.study().completeness == "incomplete: 5 of 8 by query at PACS"
    assert asked.inquiries()["count"].expected == 8


def test_what_is_missing_is_fetched_after_the_quiet_period_and_analysed_once(clerk_node: ClerkNode) -> None:
    source = Source(has=8)
    with asking(clerk_node, source, retrieve="get") as asked:
        clerk_node.receive(*slices(range(1, 6)))
        assert asked.after(5) == asked.after(24) == []
        assert source.retrievals == []

        asked.after(1)
        assert source.retrievals == [[f"{STUDY}.1.{n}" for n in (6, 7, 8)]]
        (analysis_id,) = asked.after(5)

    study = clerk_node.study()
    assert (study.revision, len(study.instances)) == (1, 8)
    assert study.completeness == "complete: 8 of 8 by query at PACS"
    assert [row.id for row in clerk_node.rows(Analysis)] == [analysis_id]
    assert asked.inquiries()["fetch"].details == {"completed": 3, "failed": 0, "warning": 0}


def test_fetching_in_vain_ends_after_its_attempts_and_the_longer_period(clerk_node: ClerkNode) -> None:
    source = Source(has=8, sends=0)
    with asking(clerk_node, source, retrieve="get") as asked:
        clerk_node.receive(*slices(range(1, 6)))
        queued = [asked.after(5) for _ in range(24)]

    assert [len(each) for each in queued] == [0] * 23 + [1]
    assert len(source.retrievals) == 3
    fetch = asked.inquiries()["fetch"]
    assert (fetch.state, fetch.attempts) == (InquiryState.UNANSWERED, 3)
    assert "answered 0xA702" in fetch.reason
    assert clerk_node.study().completeness == "incomplete: 5 of 8 by query at PACS"


def test_what_a_broken_retrieval_brought_is_kept_and_the_rest_fetched_again(clerk_node: ClerkNode) -> None:
    source = Source(has=8, sends=1)
    with asking(clerk_node, source, retrieve="get") as asked:
        clerk_node.receive(*slices(range(1, 6)))
        queued = [asked.after(10) for _ in range(20)]

    assert sum(len(each) for each in queued) == 1
    assert [len(wanted) for wanted in source.retrievals] == [3, 2, 1]
    assert clerk_node.study().completeness == "complete: 8 of 8 by query at PACS"


@pytest.mark.parametrize(
    "source",
    [
        Source(status=0xA900),
        Source(status=0xC001),
        Source(has=3),
        Source(has=5, tells=0),
        Source(has=5, tells=3),
    ],
    ids=["refuses", "fails", "has fewer", "tells zero", "tells fewer"],
)
def test_a_source_that_proves_nothing_leaves_it_to_the_quiet_period(
    clerk_node: ClerkNode, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    with asking(clerk_node, source) as asked, caplog.at_level(logging.WARNING, "daemon.clerk"):
        clerk_node.receive(*slices(range(1, 6)))
        clerk_node.receive(*slices(range(1, 6), OTHER), name="a2")
        assert asked.after(5) == asked.after(24.9) == []

        assert len(asked.after(0.1)) == 2

    assert {study.completeness for study in clerk_node.studies().values()} == {"quiet: no gaps"}
    told = [record.message for record in caplog.records if record.name.startswith("daemon.clerk")]
    assert len(told) == 1, "one line names the peer, whatever the number of studies"
    assert "Peer PACS (PACS at 127.0.0.1" in told[0]


def test_a_source_that_answers_again_is_told(clerk_node: ClerkNode, caplog: pytest.LogCaptureFixture) -> None:
    source = Source(has=5, status=0xA700)
    with asking(clerk_node, source) as asked, caplog.at_level(logging.INFO, "daemon.clerk.question"):
        clerk_node.receive(*slices(range(1, 6)))
        asked.after(5)
        source.status = 0

        assert len(asked.after(5)) == 1

    assert caplog.messages.count("peer PACS answers again") == 1


def test_a_silent_source_never_holds_up_the_index(clerk_node: ClerkNode) -> None:
    source = Source(has=5, speaks=Event())
    with asking(clerk_node, source) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        clerk_node.clock.pass_s(5)
        clerk_node.clerk.round()
        asked.inquirer.round()  # whose thread waits now

        clerk_node.receive(*slices(range(1, 6), OTHER), name="a2")

        assert set(clerk_node.studies()) == {STUDY, OTHER}
        assert len(clerk_node.rounds_after(25)) == 1
        source.speaks.set()
        asked.inquirer.wait()
    assert clerk_node.studies()[STUDY].completeness == "quiet: no gaps"


def test_not_more_than_two_questions_wait_for_one_peer(clerk_node: ClerkNode) -> None:
    source = Source(has=2, speaks=Event())
    with asking(clerk_node, source) as asked:
        for number in range(5):
            clerk_node.receive(*slices((1, 2), f"{OTHER}.{number}"), name=f"a{number}")
        clerk_node.rounds_after(5)
        for _ in range(3):
            asked.inquirer.round()

        states = [row.state for row in clerk_node.rows(Inquiry)]
        assert sorted(states) == ["asking"] * 2 + ["pending"] * 3
        source.speaks.set()
        asked.inquirer.wait()


def test_an_answer_outlives_the_clerk(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(has=8)) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        asked.after(5)
        questions = len(asked.pacs.asked)
        clerk_node.restart()
        asked.inquirer = Inquirer(clerk_node.engine, clerk_node.settings, clerk_node.clock)

        assert len(asked.after(115)) == 1

    assert len(asked.pacs.asked) == questions
    assert clerk_node.study().completeness == "incomplete: 5 of 8 by query at PACS"


def test_a_study_that_waited_for_the_clerk_is_asked_about_before_it_is_judged(clerk_node: ClerkNode) -> None:
    source = Source(has=8)
    with asking(clerk_node, source, retrieve="get") as asked:
        clerk_node.sender().send(*slices(range(1, 6))).release()
        clerk_node.clock.pass_s(3600)  # while no clerk ran

        assert [asked.after(seconds) for seconds in (0, 0)] == [[], []]
        assert len(asked.after(5)) == 1

    assert clerk_node.study().completeness == "complete: 8 of 8 by query at PACS"


def test_a_question_of_a_clerk_that_died_is_asked_by_another(clerk_node: ClerkNode) -> None:
    source = Source(has=5, speaks=Event())
    with asking(clerk_node, source) as asked, open_queue(clerk_node.settings) as app:
        clerk_node.receive(*slices(range(1, 6)))
        clerk_node.rounds_after(5)
        asked.inquirer.round()  # and is heard of no more
        clerk_node.clock.pass_s(LEASE_S + 1)
        Dispatcher(clerk_node.engine, clerk_node.settings, app).sweep(clerk_node.clock())
        source.speaks.set()
        asked.inquirer.wait()
        other = Asking(
            clerk_node, asked.pacs, Inquirer(clerk_node.engine, clerk_node.settings, clerk_node.clock)
        )

        other.inquirer.round()
        other.inquirer.wait()

    assert other.inquiries()["count"].state == InquiryState.ANSWERED


def test_a_clerk_that_stops_gives_its_questions_back(clerk_node: ClerkNode) -> None:
    source = Source(has=5, speaks=Event())
    with asking(clerk_node, source) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        clerk_node.rounds_after(5)
        asked.inquirer.round()
        wait_for(lambda: asked.pacs.asked, what="the question")

        asked.inquirer.stop()
        # For the association was aborted, long before the time limit.
        wait_for(lambda: not asked.inquirer.is_asking, limit_s=20, what="the end of the question")
        source.speaks.set()

    row = asked.inquiries()["count"]
    assert (row.state, row.attempts, row.lease_owner) == (InquiryState.PENDING, 0, "")


def test_images_in_acquisition_wait_for_the_source_which_knows_all_series(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(has=8)) as asked:
        clerk_node.receive(*slices(range(1, 6), ImagesInAcquisition=5))

        assert asked.after(0) == asked.after(5) == asked.after(30) == []

    assert clerk_node.study().state == StudyState.RECEIVING


def test_images_in_acquisition_count_when_the_source_cannot_be_asked(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(status=0xA700)) as asked:
        clerk_node.receive(*slices(range(1, 6), ImagesInAcquisition=5))

        assert asked.after(0) == []
        assert len(asked.after(5)) == 1

    assert clerk_node.study().completeness == "complete: 5 of 5"


def test_an_answer_tells_nothing_of_later_instances(clerk_node: ClerkNode) -> None:
    source = Source(has=8)
    with asking(clerk_node, source) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        asked.after(5)
        source.has = 9
        clerk_node.receive(*slices(range(6, 9)), name="a2")
        assert asked.after(5) == []

        clerk_node.receive(ct(9), name="a3")
        assert len(asked.after(5)) == 1

    assert clerk_node.study().completeness == "complete: 9 of 9 by query at PACS"


def test_a_study_that_is_sent_again_is_not_asked_about_meanwhile(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(has=8)) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        sender = clerk_node.sender("a2").send(ct(1))  # the question is due now, and an association open

        assert asked.after(5) == asked.after(60) == []
        assert asked.pacs.asked == []

        sender.release()
        assert asked.after(0) == []
    assert asked.inquiries()["count"].expected == 8


def test_late_slices_are_a_question_of_their_own(clerk_node: ClerkNode) -> None:
    source = Source(has=5)
    with asking(clerk_node, source) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        asked.after(5)
        source.has = 7
        clerk_node.receive(*slices((6, 7)), name="a2")
        asked.after(5)

    study, rows = clerk_node.study(), clerk_node.rows(Inquiry)
    assert (study.revision, study.completeness) == (2, "complete: 7 of 7 by query at PACS")
    assert [(row.revision, row.expected) for row in rows] == [(1, 5), (2, 7)]


def test_a_study_without_ct_is_not_asked_for(clerk_node: ClerkNode) -> None:
    with asking(clerk_node, Source(has=5)) as asked:
        clerk_node.receive(*slices(range(1, 6), SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"))
        asked.after(5)

    assert asked.pacs.asked == []
    assert asked.inquiries()["count"].reason == "No CT image has come."


@pytest.mark.parametrize(
    ("peer", "clerk", "rules"),
    [
        ({"answers_for": ["OTHER*"]}, {}, ()),
        ({"query": "none"}, {}, ()),
        ({}, {"ask": "no"}, ()),
        ({}, {}, (Rule(name="scanner", calling_ae_title="SCANNER", ask="no"),)),
    ],
    ids=["another's source", "may not be asked", "asks nobody", "asks nobody by rule"],
)
def test_nobody_is_asked_without_leave(
    clerk_node: ClerkNode, peer: dict[str, Any], clerk: dict[str, Any], rules: tuple[Rule, ...]
) -> None:
    with running(Source(has=9)) as pacs:
        settings = {"answers_for": ["SCAN*"]} | peer
        clerk_node.restart(peers=(pacs.peer(**settings),), clerk=ClerkSettings(**clerk), rules=rules)
        asked = Asking(clerk_node, pacs, Inquirer(clerk_node.engine, clerk_node.settings, clerk_node.clock))
        clerk_node.receive(*slices(range(1, 6)))

        assert asked.after(5) == []
        assert len(asked.after(25)) == 1

    assert pacs.asked == []
    assert clerk_node.study().completeness == "quiet: no gaps"


def test_a_source_may_be_counted_and_not_fetched_from(clerk_node: ClerkNode) -> None:
    source = Source(has=8)
    with asking(clerk_node, source, retrieve="get") as asked:
        clerk_node.restart(clerk=ClerkSettings(ask="count"))
        clerk_node.receive(*slices(range(1, 6)))
        asked.after(5)
        asked.after(30)

    assert source.retrievals == []
    assert set(asked.inquiries()) == {InquiryKind.COUNT}


def test_what_was_asked_goes_with_the_study(clerk_node: ClerkNode, engine: Engine) -> None:
    with asking(clerk_node, Source(has=5)) as asked:
        clerk_node.receive(*slices(range(1, 6)))
        asked.after(5)

    with transaction(engine) as session:
        delete_study(session, get_study(session, STUDY), clerk_node.clock())

    assert clerk_node.rows(Inquiry) == []


def test_settings_without_a_peer_that_may_be_asked_cost_no_question(clerk_node: ClerkNode) -> None:
    assert clerk_node.settings.peers == Settings().peers == ()
    clerk_node.receive(*slices(range(1, 6)))
    clerk_node.rounds_after(30)

    assert clerk_node.rows(Inquiry) == []
