"""A node as administrators find it: phantoms that were analysed, wait or failed, and programs that live."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser
from sqlalchemy.orm import Session

from db.models import Analysis, Delivery, Feedback, Label, Study
from db.session import transaction
from tests.browsing import DESKTOP, PHONE, Tab, chromium, tab
from tests.web import Web, new_web, serving

MODEL: Final = "lungnode-resnet50 20261124.005222"


@dataclass
class Desk:
    """A web, and a browser in which somebody is signed in."""

    web: Web
    base: str
    browser: Browser
    admin: Tab
    phone: Tab  # the same, on a telephone

    @contextmanager
    def signed_in(self, role: str, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> Iterator[Tab]:
        """Open another tab, in which an account of a role is signed in."""
        touch = size[0] < 600
        with tab(self.browser, self.base, size=size, dark=dark, touch=touch) as page:
            yield page.sign_in(role)


@contextmanager
def desk(folder: Path, **settings: Any) -> Iterator[Desk]:
    """Serve an empty node, whose clock is the real one, while the block runs."""
    with (
        new_web(folder, **settings) as web,
        serving(web.app) as base,
        chromium() as browser,
        tab(browser, base) as page,
        tab(browser, base, size=PHONE, touch=True) as phone,
    ):
        web.clock.now = datetime.now(UTC)
        yield Desk(web, base, browser, page.sign_in("admin"), phone.sign_in("admin"))


@dataclass
class Phantoms:
    """Adds studies of phantoms, one after the other."""

    session: Session
    chance: random.Random
    number: int = 0

    def add(self, at: datetime, state: str = "done", source: str = "CT1", **values: Any) -> Analysis:
        """Add a study whose analysis ended, or is due, at a moment."""
        self.number += 1
        uid = f"1.2.840.99999.77.{self.number}"
        study = Study(
            study_instance_uid=uid,
            patient_name=f"Phantom^{self.number:04}",
            patient_id=f"PHANTOM-{self.number:04}",
            accession_number=f"A{self.number:05}",
            study_date=f"{at:%Y%m%d}",
            calling_ae_title=source,
            state="complete",
            completeness="quiet: no gaps",
            created_at=at,
            changed_at=at,
        )
        times: dict[str, Any] = {"created_at": at - timedelta(minutes=1), "due_at": at}
        if state in ("done", "quarantined"):
            times["finished_at"] = at
        analysis = Analysis(revision=1, state=state, **times, **self._result(state), **values)
        study.analyses.append(analysis)
        self.session.add(study)
        return analysis

    def _result(self, state: str) -> dict[str, Any]:
        if state != "done":
            return {}
        positive = self.chance.random() < 0.2
        probability = min(0.99, max(0.01, self.chance.gauss(0.8 if positive else 0.15, 0.08)))
        verdict = "positive" if probability >= 0.5 else "negative"
        return {"verdict": verdict, "probability": probability, "threshold": 0.5, "model": MODEL}


def send(analysis: Analysis, destination: str, state: str = "stored", **values: Any) -> None:
    """Add a delivery of an analysis's report."""
    at = analysis.finished_at or analysis.due_at
    row = {"destination": destination, "group": "sr", "state": state, "attempts": 1}
    analysis.deliveries.append(Delivery(**row, due_at=at, created_at=at, finished_at=at, **values))


def fill_day(web: Web) -> None:
    """Let a node have worked for a day, and some things have gone wrong."""
    chance, now = random.Random(5), web.clock()  # noqa: S311 - numbers that can be repeated are wanted
    with transaction(web.engine) as session:
        phantoms = Phantoms(session, chance)
        for hour in range(24):
            for _ in range(chance.randrange(3, 9)):
                at = now - timedelta(hours=hour, minutes=chance.randrange(2, 58))
                send(phantoms.add(at), "PACS")
        for minutes in (3, 2, 1):
            phantoms.add(now - timedelta(minutes=minutes), "queued")
        phantoms.add(now, "running")
        phantoms.add(now - timedelta(hours=2), "quarantined")
        refused = {"reason": "Status 0xA900: data set does not match SOP class.", "advice": "See its log."}
        lost = {"reason": "It cannot be reached: connection refused.", "advice": "Is it switched on?"}
        send(phantoms.add(now - timedelta(hours=3)), "Archive", "refused", **refused)
        send(phantoms.add(now - timedelta(hours=4)), "Archive", "dead", **lost)


def fill_weeks(web: Web, digest: str, weeks: int = 12, a_week: int = 240) -> None:
    """Let a model have judged phantoms for weeks, of which the last two came from another protocol."""
    chance, now = random.Random(7), web.clock()  # noqa: S311 - as above
    with transaction(web.engine) as session:
        phantoms, labelled = Phantoms(session, chance), []
        for week in range(weeks):
            for number in range(a_week):
                at = now - timedelta(days=7 * week, minutes=chance.randrange(1, 10_000))
                source = chance.choices(("CT1", "CT2"), (1, 1))[0]
                row = phantoms.add(at, source=source, model_digest=digest)
                row.input_statistics = _given(chance, is_other=week < 2 and source == "CT2")
                if number % 20 == 0:
                    labelled.append(row)
        session.flush()
        for row in labelled:
            _judge(session, row, chance)


def _given(chance: random.Random, *, is_other: bool) -> dict[str, float]:
    return {
        "slices": float(chance.randrange(90, 130)),
        "gray_mean": round(chance.gauss(128 if is_other else 120, 4), 3),
        "gray_sd": round(chance.gauss(70, 3), 3),
        "spacing_mm": 2.5,
    }


def _judge(session: Session, row: Analysis, chance: random.Random) -> None:
    """Let a reader say what a phantom shows; mostly the same as the model."""
    agrees, at = chance.random() < 0.9, row.finished_at or row.due_at
    value = "positive" if (row.verdict == "positive") == agrees else "negative"
    of = {"study_id": row.study_id, "value": value, "reader": "ada", "created_at": at}
    session.add(Label(**of, source="reader"))
    said = "agree" if agrees else "disagree"
    session.add(
        Feedback(**of, analysis_id=row.id, agreement=said, labelled_on=f"{at:%Y-%m-%d}", changed_at=at)
    )
