"""Runs the engagement service: its projections, its scoring models, and the reads of scores."""

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from uuid import uuid4

import structlog
from eventsourcing.persistence import PersistenceError

from libs.eventstore import aggregates
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.migrations import Phase, migrate_service
from libs.projection import checkpoints, gauges
from libs.projection import grpc_api as projection_api
from libs.projection.generations.keeping import Keeper
from libs.projection.generations.worker import named, run_worker
from libs.projection.hosting import Listening, answering
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Outbox, Sender
from libs.projection.process import connected, run_service
from libs.projection.projection import Projection
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.rpc.arguments import ALL_ROLES, Role
from libs.tasks import running
from libs.telemetry.metrics import observed
from services.engagement import scores
from services.engagement.config import Config, read_config
from services.engagement.crossings import ScoreLevels
from services.engagement.domain.default_model import default_model
from services.engagement.erasing import CHECKS
from services.engagement.grpc_api import EngagementService, Parts
from services.engagement.levels import Levels
from services.engagement.midnights import Midnights
from services.engagement.models import Models, PublishedModels, StaleVersion
from services.engagement.rebuilding import scores_named
from services.engagement.supervising import Supervisor
from touchline.engagement.v1.engagement_service_pb2 import DESCRIPTOR
from touchline.engagement.v1.engagement_service_pb2_grpc import (
    add_EngagementServiceServicer_to_server,
)

_SERVICE = DESCRIPTOR.services_by_name["EngagementService"].full_name
# State and checkpoint rewind together, and the events are safe in the store.
_PROJECTING = {
    "synchronous_commit": "off",
    # A process that froze in a transaction must not hold up the one that takes over.
    "idle_in_transaction_session_timeout": "10s",
    # Listing scores aggregates over all customers: compiling takes longer than that, and sorting
    # on disk as well.
    "jit": "off",
    "work_mem": "32MB",
}
_READS = {one.name: one.fold_version for one in (IdentityGraph, PublishedModels)}
FOLDED_TABLES = frozenset(
    {table.name for one in (IdentityGraph, PublishedModels, ScoreLevels) for table in one.tables}
    # The positions that name versions of models may be other events' on the line that is there now.
    | {*scores.TABLES, "serving_models"}
)
"""What a fold anew fills again, with the rows of every version of every model."""

_AGAIN_SECONDS = 1.0
_SHIPPED_WITHIN_SECONDS = 5.0
_log = structlog.get_logger("engagement")


async def migrate_engagement(database_url: str, phase: Phase = "before") -> None:
    """Bring the tables up to date."""
    components = {"projection": checkpoints.MIGRATIONS, "engagement": scores.MIGRATIONS}
    await migrate_service(database_url, "engagement", components, phase=phase)


async def serve_engagement(
    config: Config, stop: asyncio.Event, roles: frozenset[Role] = ALL_ROLES
) -> None:
    """Do what the roles say until `stop` is set, then drain the calls and give the leases back."""
    await migrate_engagement(config.database_url)
    async with AsyncExitStack() as stack:
        # Which versions of models answer, the supervisor finds out.
        serving = Serving(_READS, complete=False)
        pool, store, reached = await stack.enter_async_context(
            connected("engagement", config, serving, FOLDED_TABLES, _PROJECTING)
        )
        owner = uuid4()
        lending = aggregates.lend_to_each(
            store, config.tenants.all, config.identity_keys, lambda lent: Models(env=lent)
        )
        models = stack.enter_context(lending)
        outbox, levels = Outbox(config.identity_secret), Levels(pool, serving)
        crossing = ScoreLevels(levels, store, reached, outbox, config.tenants)
        crew = Crew(
            *(config.database_url, pool, store, owner, (*folds_of(config, store), crossing)),
            settings=_PROJECTING,
            serving=serving,
            projects=Role.PROJECT in roles,
            reacts=Role.REACT in roles,
        )
        keeper = Keeper(pool, crew.projections, "services.engagement")
        sender = Sender(outbox, pool, store, list(crew.projections.values()), owner=owner)
        for stopped in (crew.stop, keeper.stop, sender.stop):
            stack.push_async_callback(stopped)
        loops = [crew.run(), Supervisor(pool, store, reached, crew, serving).run()]
        if Role.PROJECT in roles:
            loops.append(keeper.run())
        if Role.REACT in roles:
            midnights = Midnights(pool, levels, store, reached, outbox, config.tenants)
            loops += [sender.run(), midnights.run()]
        shipped = asyncio.Event()
        if Role.SERVE in roles:
            loops.append(_publish_default(models, shipped))
        await stack.enter_async_context(running(*loops))
        keys = config.identity_keys
        parts = Parts(pool, store, reached, serving, config.tenants, keys, models)
        if Role.SERVE in roles:
            with suppress(TimeoutError):  # without a store it serves what it has
                await asyncio.wait_for(shipped.wait(), _SHIPPED_WITHIN_SECONDS)
        service = EngagementService(parts)
        port = await stack.enter_async_context(
            answering(
                Listening(config.listen, config.worker_listen, Role.SERVE in roles),
                _SERVICE,
                lambda server: add_EngagementServiceServicer_to_server(service, server),
                projection_api.registration(
                    *(crew, config.database_url, store, pool, config.tenants), *(reached, CHECKS)
                ),
                serving,
            )
        )
        _log.info("engagement serves", roles=sorted(roles), port=port)
        told = gauges.readings(crew.runners, crew.projections, serving.is_paused)
        with observed(told | gauges.outbox_readings(sender)):
            await stop.wait()
        _log.info("engagement drains")


def folds_of(config: Config, store: StoreClient) -> tuple[Projection, ...]:
    """Return what the service always folds; versions of models come and go."""
    return IdentityGraph(), PublishedModels(store, config.identity_keys)


async def rebuild_engagement(config: Config, stop: asyncio.Event, generation: int) -> None:
    """Fill a generation until it follows or `stop` is set."""
    async with connect_nats(config.nats_url, "engagement") as nats:
        store = StoreClient(nats)
        always = named(folds_of(config, store))

        async def projection(name: str) -> Projection | None:
            return await always(name) or await scores_named(config.database_url, store, name)

        await run_worker(generation, config.database_url, store, projection, stop, _PROJECTING)


async def _publish_default(models: Mapping[int, Models], shipped: asyncio.Event) -> None:
    """Publish the shipped model for every tenant that has none of its name; waits for the store.

    Args:
        models: By tenant.
        shipped: Set at the end.
    """
    for one in models.values():
        while True:
            try:
                await asyncio.to_thread(one.publish, default_model(), 0, "")
            except StaleVersion:
                break  # it has one, perhaps another process's of just now
            except PersistenceError as error:
                _log.info("default model waits", reason=type(error).__name__)
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                break
    shipped.set()


def main() -> None:
    """Run the service as a process: its roles, just its migrations, or a rebuild."""
    run_service(
        "engagement",
        read_config,
        migrate=migrate_engagement,
        serve=serve_engagement,
        rebuild=rebuild_engagement,
    )


if __name__ == "__main__":
    main()
