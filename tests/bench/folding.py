"""One projection or reactor, alone in a process, folding the line up to its head."""

import asyncio
import cProfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple
from uuid import uuid4

import asyncpg

from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.pool import open_pool
from libs.projection.consents import Consents
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Outbox
from libs.projection.projection import Projection
from libs.projection.runner import Runner
from libs.projection.timeline import Timeline
from libs.projection.waiting import Checkpoints, follow_checkpoints
from libs.tasks import running
from services.engagement.__main__ import migrate_engagement
from services.engagement.domain.default_model import default_model
from services.engagement.domain.model import compile_model
from services.engagement.scores import Scores, Scoring
from services.notification.__main__ import migrate_notification
from services.notification.config import Config, read_config
from services.notification.inbox.notifications import Notifications
from services.notification.rules.book import PublishedRule, add_rules
from services.notification.rules.deciding import Deciding
from services.profile.__main__ import migrate_profile
from services.profile.attributes import AttributeValues
from services.profile.config import read_config as read_profile_config
from tests.bench.cpu import CpuMeter
from tests.bench.rules import hundred_rules
from tests.bench.stage import Stage, profile_of
from tests.bench.worker import Result, Spec, Tell, worker

PROJECTING: Final = {"synchronous_commit": "off"}  # as the services do
SCORING: Final = 1
"""Names the model's version in the tables."""

_TENANT: Final = 1
_LOOK_SECONDS: Final = 0.002
_MIGRATE: Final = {
    "profile": migrate_profile,
    "engagement": migrate_engagement,
    "notification": migrate_notification,
}


class _Parts(NamedTuple):
    """What a projection may be made of."""

    pool: asyncpg.Pool
    store: StoreClient
    reached: Checkpoints
    settings: dict[str, str]


class _Fold(NamedTuple):
    """How to make a projection, and its tables; the first one's rows are counted."""

    make: Callable[[_Parts], Projection]
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Folded:
    """What was folded.

    Attributes:
        after: The position from which on.
        up_to: The last position.
        seconds: In how long.
        cpu_seconds: For how much of that its process was running.
        rows: How many rows that added to the first of the projection's tables.
        cores: How busy each process was.
    """

    after: int
    up_to: int
    seconds: float
    cpu_seconds: float
    rows: int
    cores: dict[str, float]

    @property
    def speed(self) -> float:
        """Events/s."""
        return (self.up_to - self.after) / self.seconds

    @property
    def cost(self) -> str:
        """The CPU that its process needs for an event, which other processes hardly change."""
        return f"{self.cpu_seconds / (self.up_to - self.after) * 1e6:.0f} µs of its CPU each"


async def folded(stage: Stage, service: str, projection: str, *, anew: bool = True) -> Folded:
    """Fold a service's projection up to the head, in a process of its own.

    Args:
        stage: Where the line and the databases are.
        service: Whose tables to fold into, those of its second database.
        projection: Which one.
        anew: From position 0, on empty tables; otherwise on from where it came to.
    """
    spec = {
        "service": service,
        "database": stage.folded(service),
        "nats": stage.servers.nats_service_url,
        "settings": stage.settings(service),
        "projection": projection,
        "anew": anew,
        "profile": str(profile_of(projection)) if stage.profiled else "",
    }
    async with worker("fold", spec) as folder:
        meter = CpuMeter()
        told = await folder.result()
        cores = meter.cores()
    return Folded(**told, cores=cores)


@asynccontextmanager
async def fold(spec: Spec, _: Tell) -> AsyncIterator[Callable[[], Awaitable[Result]]]:
    """Fold the line up to its head.

    Spec: service, database, nats, settings, projection, anew, profile (where to write one, if at
    all).
    """
    await _MIGRATE[spec["service"]](spec["database"])
    one = _FOLDS[spec["projection"]]
    async with (
        open_pool(spec["database"], application="bench", settings=PROJECTING) as pool,
        follow_checkpoints(spec["database"], pool) as reached,
        connect_nats(spec["nats"], "bench") as nats,
    ):
        store = StoreClient(nats)
        head = (await store.head()).position
        projection = one.make(_Parts(pool, store, reached, spec["settings"]))
        runner = Runner(projection, pool, store, uuid4())
        if spec["anew"]:
            await _empty(pool, projection.name, one.tables)
        start = await _position(pool, projection.name)
        count = partial(pool.fetchval, f"SELECT count(*) FROM {one.tables[0]}")
        rows = await count()

        async def work() -> Result:
            began, cpu = time.perf_counter(), time.process_time()
            with _profiled(spec["profile"]):
                async with running(runner.run()):
                    while runner.checkpoint.position < head:  # noqa: ASYNC110 - it has no event
                        await asyncio.sleep(_LOOK_SECONDS)
                    seconds = time.perf_counter() - began
                    cpu_seconds = time.process_time() - cpu
            await runner.stop()
            return {
                "after": start,
                "up_to": head,
                "seconds": seconds,
                "cpu_seconds": cpu_seconds,
                "rows": await count() - rows,
            }

        yield work


async def _empty(pool: asyncpg.Pool, projection: str, tables: tuple[str, ...]) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(f"TRUNCATE {', '.join(tables)}")
        await connection.execute(
            "DELETE FROM projection_generations WHERE projection = $1", projection
        )
        if "rules" in tables:  # in force from the start of the line, where nobody published any
            rules = [
                PublishedRule(_TENANT, one.name, 1, 0, 0, "bench", one.SerializeToString())
                for one in hundred_rules()
            ]
            await add_rules(connection, rules)


async def _position(pool: asyncpg.Pool, projection: str) -> int:
    query = "SELECT position FROM projection_checkpoints WHERE projection = $1"
    position: int | None = await pool.fetchval(query, projection)
    return position or 0


def _profiled(file: str) -> ExitStack:
    stack = ExitStack()
    if file:
        profile = stack.enter_context(cProfile.Profile())
        stack.callback(profile.dump_stats, file)
    return stack


def _timeline(_: _Parts) -> Projection:
    return Timeline()


def _consents(_: _Parts) -> Projection:
    return Consents()


def _attributes(parts: _Parts) -> Projection:
    return AttributeValues(parts.store, read_profile_config(parts.settings).readers)


def _identity_graph(_: _Parts) -> Projection:
    return IdentityGraph()


def _scores(parts: _Parts) -> Projection:
    scoring = Scoring(SCORING, _TENANT, 1, compile_model(default_model()))
    return Scores(scoring, parts.store)


def _rules(parts: _Parts) -> Projection:
    config = _config(parts)
    outbox = Outbox(config.identity_secret)
    return Deciding(
        *(parts.pool, parts.store, outbox, parts.reached, config.readers),
        email_is_set_up=config.smtp is not None,
    )


def _notifications(parts: _Parts) -> Projection:
    return Notifications(parts.store, _config(parts).readers)


def _config(parts: _Parts) -> Config:
    return read_config(parts.settings)


_FOLDS: Final = {
    "timeline": _Fold(_timeline, ("timeline", "timeline_retractions")),
    "consents": _Fold(_consents, ("consents", "consent_retractions")),
    "attributes": _Fold(_attributes, ("attribute_values",)),
    "identity_graph": _Fold(_identity_graph, tuple(one.name for one in IdentityGraph.tables)),
    "scores": _Fold(_scores, ("contributions", "day_sums", "score_retractions")),
    "rules": _Fold(_rules, ("outbox", "rules")),
    "notifications": _Fold(
        _notifications, ("notifications", "notification_reads", "delivery_attempts")
    ),
}
