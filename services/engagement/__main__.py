"""Runs the engagement service: its projections, its scoring models, and the reads of scores."""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from uuid import uuid4

import grpc
import structlog
from eventsourcing.persistence import PersistenceError

from libs import telemetry
from libs.eventstore import aggregates
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.migrations import MigrationError, Phase, migrate_service
from libs.postgres.pool import open_pool
from libs.projection import checkpoints, gauges
from libs.projection import grpc_api as projection_api
from libs.projection.checkpoints import FoldsAnew
from libs.projection.erasing import forgetting
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Outbox, Sender
from libs.projection.restored import emptied_to_fold_anew
from libs.projection.runner import PACE, Runner
from libs.projection.waiting import follow_checkpoints
from libs.rpc.arguments import read_arguments
from libs.rpc.loop import run
from libs.rpc.server import ListenError, serve
from libs.rpc.settings import SettingError, required
from libs.tasks import START_AGAIN, running
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
from services.engagement.supervising import Supervisor
from touchline.engagement.v1.engagement_service_pb2 import DESCRIPTOR
from touchline.engagement.v1.engagement_service_pb2_grpc import (
    add_EngagementServiceServicer_to_server,
)
from touchline.projection.v1 import projection_service_pb2

_SERVICES = (
    DESCRIPTOR.services_by_name["EngagementService"].full_name,
    projection_service_pb2.DESCRIPTOR.services_by_name["ProjectionService"].full_name,
)
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


async def serve_engagement(config: Config, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain the calls and give the projections' leases back."""
    await migrate_engagement(config.database_url)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(config.database_url, application="engagement", settings=_PROJECTING)
        )
        await stack.enter_async_context(emptied_to_fold_anew(pool, FOLDED_TABLES))
        nats = await stack.enter_async_context(connect_nats(config.nats_url, "engagement"))
        store, owner = StoreClient(nats), uuid4()
        forget = forgetting(store, config.identity_keys.values())
        reached = await stack.enter_async_context(
            follow_checkpoints(config.database_url, pool, forget)
        )
        models = _lent_models(stack, config, store)
        published = PublishedModels(store, config.identity_keys)
        outbox = Outbox(config.identity_secret)
        crossing = ScoreLevels(Levels(pool), store, reached, outbox, config.tenants)
        midnights = Midnights(pool, store, reached, outbox, config.tenants)
        runners = [
            Runner(one, pool, store, owner, pace=PACE)
            for one in (IdentityGraph(), published, crossing)
        ]
        sender = Sender(outbox, pool, store, runners, owner=owner)
        for stopped in (*[one.stop for one in runners], sender.stop):
            stack.push_async_callback(stopped)
        supervisor = Supervisor(pool, store, reached, owner, list(runners))
        stack.push_async_callback(supervisor.stop)
        loops = [one.run() for one in runners]
        shipped = asyncio.Event()
        loops += [sender.run(), supervisor.run(), midnights.run()]
        loops.append(_publish_default(models, shipped))
        await stack.enter_async_context(running(*loops))
        parts = Parts(pool, store, reached, config.tenants, config.identity_keys, models)

        def register(server: grpc.aio.Server) -> None:
            add_EngagementServiceServicer_to_server(EngagementService(parts), server)
            projection_api.registration(
                *(supervisor.runners, config.database_url, store, pool, config.tenants),
                *(reached, CHECKS),
            )(server)

        with suppress(TimeoutError):  # without a store it serves what it has
            await asyncio.wait_for(shipped.wait(), _SHIPPED_WITHIN_SECONDS)
        server = await stack.enter_async_context(serve(config.listen, register, _SERVICES))
        _log.info("engagement serves", listen=config.listen, port=server.port)
        with observed(gauges.readings(supervisor.runners) | gauges.outbox_readings(sender)):
            await stop.wait()
        _log.info("engagement drains")


def _lent_models(stack: AsyncExitStack, config: Config, store: StoreClient) -> dict[int, Models]:
    """Return each tenant's models, for as long as the stack is open."""
    lent = {}
    for tenant in config.tenants.all:
        keys = config.identity_keys[tenant.number]
        environment = stack.enter_context(aggregates.lend(store, tenant, keys))
        lent[tenant.number] = Models(env=environment)
    return lent


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
    """Run the service as a process, or with --migrate-only just its migrations."""
    told = read_arguments("engagement", sys.argv[1:])
    traces = telemetry.setup("engagement")
    try:
        if told.migrate:
            database_url = required(os.environ, "TOUCHLINE_DATABASE_URL")
            asyncio.run(migrate_engagement(database_url, told.migrate))
            return
        config = read_config(os.environ)
        run(lambda stop: serve_engagement(config, stop))
    except (SettingError, MigrationError, ListenError) as error:
        sys.exit(f"engagement can't start: {error}")
    except FoldsAnew as end:
        sys.stderr.write(f"engagement ends: {end}\n")
        sys.exit(START_AGAIN)
    finally:
        traces.shutdown()


if __name__ == "__main__":
    main()
