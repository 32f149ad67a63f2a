"""The shadow: another model's verdict on a study whose results are on their way; kept, never sent."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select

from db.models import Analysis, ShadowResult
from db.registry import place_of, shadow_model
from db.session import transaction
from lungnode.loading import Images, read_grays
from lungnode.runtime import Model
from worker.analysis import Seen, analyse, judge_seen
from worker.conduct import Conduct
from worker.hold import Node, Stopped
from worker.models import Loader, WarmModel
from worker.result import StudyFinding, Verdict

_LOG = logging.getLogger(__name__)
_OF_LIMIT: Final = (
    0.9  # of the hard limit: a process that is killed for its shadow would load its models again
)


@dataclass(frozen=True)
class Analysed:
    """A study whose analysis is committed."""

    analysis_id: int
    images: Images
    seen: Seen  # by that model
    model_digest: str  # of the model that made the results
    began: float  # time.monotonic() at its claim: analysis and shadow share the hard limit


class Shadow:
    """The model in the shadow, and how it judges."""

    def __init__(self, node: Node, load: Loader) -> None:
        self._node = node
        self._warm = WarmModel(node, load, "shadow")

    def judge(self, analysed: Analysed) -> None:
        """Let the shadow model judge the same study and keep what it says; whatever fails harms nobody.

        A model with the same input gets the slices that the active one saw; another one has its own made.
        """
        try:
            model = self._model(analysed)
            if model is not None:
                self._keep(analysed, model, self._result(analysed, model))
        except Stopped:
            _LOG.info("shadow of analysis %s left off", analysed.analysis_id)
        except Exception as error:  # noqa: BLE001 - the study is done; the message may quote the data set
            _LOG.error("shadow of analysis %s failed with %s", analysed.analysis_id, type(error).__name__)

    def _model(self, analysed: Analysed) -> Model | None:
        with transaction(self._node.engine) as session:
            row = shadow_model(session)
            place = place_of(row, self._node.settings) if row else None
        if place is None or place.digest == analysed.model_digest:
            self._warm.drop()
            return None
        return self._warm.only_at(place)

    def _result(self, analysed: Analysed, model: Model) -> ShadowResult:
        start = time.monotonic()
        info = model.info
        result = ShadowResult(
            analysis_id=analysed.analysis_id,
            model=f"{info.name} {info.version}",
            model_digest=info.digest,
            threshold=info.threshold,
        )
        try:
            at_most = self._node.settings.analysis.at_most
            finding = _find(analysed, model, Conduct(time.monotonic, self._until(analysed), at_most))
        except Stopped:
            raise
        except Exception as error:  # noqa: BLE001 - no model may stop the worker; the row keeps what was wrong
            _LOG.error("shadow of analysis %s failed with %s", analysed.analysis_id, type(error).__name__)
            result.verdict, result.reason = Verdict.ERROR, f"{type(error).__name__}, {error}"
        else:
            result.verdict, result.reason = finding.verdict, finding.reason
            result.probability = finding.probability
        result.seconds = round(time.monotonic() - start, 3)
        return result

    def _until(self, analysed: Analysed) -> Callable[[str, int, int], None]:
        """Return what ends the run when the worker has to stop, or too little of the hard limit is left."""
        limit_s = self._node.settings.analysis.hard_limit_s * _OF_LIMIT

        def proceed(_phase: str, _done: int, _total: int) -> None:
            self._node.give_way()
            if self._node.stopping():
                raise Stopped
            if time.monotonic() - analysed.began > limit_s:
                raise TimeoutError("analysis.hard_limit_s leaves no more time")

        return proceed

    def _keep(self, analysed: Analysed, model: Model, result: ShadowResult) -> None:
        result.created_at = self._node.clock()
        same = select(ShadowResult.id).where(
            ShadowResult.analysis_id == analysed.analysis_id, ShadowResult.model_digest == model.info.digest
        )
        with transaction(self._node.engine) as session:
            gone = session.get(Analysis, analysed.analysis_id) is None  # deleted meanwhile
            if not gone and session.scalar(same) is None:
                session.add(result)


def _find(analysed: Analysed, model: Model, conduct: Conduct) -> StudyFinding:
    if model.info.recipe.input == analysed.seen.input:
        return judge_seen(analysed.seen, model, conduct)
    return analyse(analysed.images.headers, read_grays, model, conduct)[0]
