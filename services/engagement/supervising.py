"""Runs a projection per version of a scoring model that matters, and lets versions take over.

The newest version of each model counts the past beside the one that answers. Once it has come to
the head that was seen when it started, it answers, and the one before folds on for a moment for the
calls that still read it; then its rows go. Every process does this; leases say who folds, and the
table serving_models says who answers.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import structlog

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import StoreError
from libs.expressions import ExpressionError
from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.generations import switching
from libs.projection.generations.records import generations
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.waiting import Checkpoints
from services.engagement.domain.model import Model
from services.engagement.models import PublishedModels
from services.engagement.reading import compiled_model
from services.engagement.scores import Scores, Scoring, projection_name, tables_of

RETIRING: Final = timedelta(minutes=2)
"""For how long a version that no longer answers is kept: longer than any call."""

_PAUSE_SECONDS: Final = 0.1
# Another process may have let a version answer.
_LOOK_SECONDS: Final = 1.0
_SWEEP_SECONDS: Final = 2.0
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))
_log = structlog.get_logger("engagement")


class _Version(NamedTuple):
    """A published version, and what is to become of it.

    Attributes:
        scoring: The position at which it was published.
        tenant: The tenant's number.
        name: The model's name.
        version: Its version.
        definition: What it says.
        answers: Whether it answers.
        building: Whether it is to answer once it has caught up.
        wanted: Whether it is to be folded.
    """

    scoring: int
    tenant: int
    name: str
    version: int
    definition: str
    answers: bool
    building: bool
    wanted: bool

    @property
    def projection(self) -> str:
        return projection_name(self.tenant, self.name, self.version)


@dataclass(slots=True)
class Supervisor:
    """Has published models folded, and forgets those that nobody asks any more. `run` it as a task.

    Attributes:
        pool: Connections to the service's database.
        store: History, feed and data keys.
        checkpoints: Tells how far the models are folded.
        crew: Folds, with those of other processes.
        serving: What the process reads; it is ready once it can read what answers.
        retiring: For how long a version that no longer answers is kept.
    """

    pool: asyncpg.Pool
    store: StoreClient
    checkpoints: Checkpoints
    crew: Crew
    serving: Serving
    retiring: timedelta = RETIRING
    # By version, the head that was seen when it was first folded here.
    _folded: dict[int, int] = field(default_factory=dict)
    _broken: set[int] = field(default_factory=set)
    _seen: tuple[int, float] = (-1, 0.0)
    _swept_at: float = 0.0

    async def run(self) -> None:
        """Supervise for ever; what is down is waited for."""
        while True:
            with suppress(asyncpg.PostgresError, StoreError, *UNREACHABLE):
                if self._may_have_changed():
                    await self._look()
            await asyncio.sleep(_PAUSE_SECONDS)

    def _may_have_changed(self) -> bool:
        now = asyncio.get_running_loop().time()
        position, looked_at = self._seen
        folded = self.checkpoints.position((PublishedModels.name,))
        if folded == position and now - looked_at < _LOOK_SECONDS:
            return False
        self._seen = (folded, now)
        return True

    async def _look(self) -> None:
        models_answer = self.serving.generation(PublishedModels.name) is not None
        versions = await self._versions()
        if models_answer and not self.serving.is_ready:
            answering = [v for v in versions if v.answers and self._model_of(v) is not None]
            self.serving.need({v.projection: Scores.fold_version for v in answering})
        for version in versions:
            if not version.wanted and version.scoring in self._folded:
                await self.crew.remove(version.projection)
                del self._folded[version.scoring]
            elif version.wanted and version.scoring not in self._folded:
                await self._start(version)
        building = [v for v in versions if v.wanted and v.building]
        for version in building:
            await self._serve_if_caught_up(version)
        if building or not models_answer:
            self._seen = (-1, 0.0)  # look again soon
        await self._sweep([v for v in versions if not v.wanted])

    async def _versions(self) -> list[_Version]:
        rows: Sequence[Any] = await self.pool.fetch(_SQL["models"], self.retiring)
        return [
            _Version(
                *(row["position"], row["tenant"], row["name"], row["version"]),
                row["definition"],
                answers=(answers := row["position"] == row["serving"]),
                building=row["newest"] and not answers,
                wanted=row["newest"] or row["retiring"] or answers,
            )
            for row in rows
        ]

    def _model_of(self, version: _Version) -> Model | None:
        """Return what a version says; None if only an older release could make sense of it."""
        if version.scoring in self._broken:
            return None
        try:
            return compiled_model(version.scoring, version.definition)
        except ExpressionError as error:
            # The version before answers on.
            self._broken.add(version.scoring)
            _log.error("model does not compile", projection=version.projection, reason=str(error))
            return None

    async def _start(self, version: _Version) -> None:
        model = self._model_of(version)
        if model is None:
            return
        head = await self.store.head()
        scoring = Scoring(version.scoring, version.tenant, version.version, model)
        self.crew.add(Scores(scoring, self.store))
        self._folded[version.scoring] = head.position
        _log.info("model is counted", projection=version.projection, up_to=head.position)

    async def _serve_if_caught_up(self, version: _Version) -> None:
        caught_up_at = self._folded.get(version.scoring)
        # Whichever process folds it.
        position = self.checkpoints.position([version.projection])
        if caught_up_at is not None and position >= caught_up_at:
            served = await self.pool.execute(
                _SQL["serve"], version.tenant, version.name, version.scoring
            )
            if served != "INSERT 0 0":
                _log.info("model answers", projection=version.projection, position=position)

    async def _sweep(self, versions: Sequence[_Version]) -> None:
        """Delete the rows of versions that nobody folds any more."""
        now = asyncio.get_running_loop().time()
        if not versions or now - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = now
        scorings = {version.projection: version.scoring for version in versions}
        for row in await self.pool.fetch(_SQL["left_over"], list(scorings)):
            await self._delete(row["projection"], scorings[row["projection"]])

    async def _delete(self, projection: str, scoring: int) -> None:
        await switching.resume(self.pool, projection)  # nobody is left who could
        # Else somebody reads or fills one still, and it goes the next time.
        with suppress(asyncpg.LockNotAvailableError):
            for one in await generations(self.pool):
                if one.projection == projection:
                    await switching.give_up(self.pool, one, tables_of(scoring))
            _log.info("model is forgotten", projection=projection)
