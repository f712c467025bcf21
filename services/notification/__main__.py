"""Runs the notification service: what it folds, decides, sends and answers."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import asyncpg
import grpc
import structlog

from libs import telemetry
from libs.eventstore import aggregates
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.migrations import MigrationError, Phase, migrate_service
from libs.postgres.pool import open_pool
from libs.projection import checkpoints, consents, gauges, timeline
from libs.projection import grpc_api as projection_api
from libs.projection.checkpoints import FoldsAnew
from libs.projection.consents import Consents
from libs.projection.erasing import forgetting
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Outbox, Sender
from libs.projection.restored import emptied_to_fold_anew
from libs.projection.runner import PACE, Runner
from libs.projection.timeline import Timeline
from libs.projection.waiting import Checkpoints, follow_checkpoints
from libs.rpc.arguments import read_arguments
from libs.rpc.loop import run
from libs.rpc.server import ListenError, serve
from libs.rpc.settings import SettingError, required
from libs.tasks import START_AGAIN, running
from libs.telemetry.metrics import observed
from services.notification.calls import Applications, Parts
from services.notification.config import Config, read_config
from services.notification.deliveries import worker as delivering
from services.notification.deliveries.taking_in import Deliveries
from services.notification.erasing import CHECKS
from services.notification.expectations import deadlines
from services.notification.expectations.keeping import Expectations
from services.notification.expectations.promises import Promises
from services.notification.grpc_api import NotificationService
from services.notification.inbox import notifications
from services.notification.inbox.notifications import Notifications
from services.notification.rules.deciding import Deciding
from services.notification.rules.published import Rules
from touchline.notification.v1.notification_service_pb2 import DESCRIPTOR
from touchline.notification.v1.notification_service_pb2_grpc import (
    add_NotificationServiceServicer_to_server,
)
from touchline.projection.v1 import projection_service_pb2

_SERVICES = (
    DESCRIPTOR.services_by_name["NotificationService"].full_name,
    projection_service_pb2.DESCRIPTOR.services_by_name["ProjectionService"].full_name,
)
# State and checkpoint rewind together. What must not rewind asks for its commit to wait.
_PROJECTING = {
    "synchronous_commit": "off",
    # A process that froze in a transaction must not hold up the one that takes over.
    "idle_in_transaction_session_timeout": "10s",
}
_CONNECTIONS = 20
_FOLDS = (IdentityGraph, Timeline, Consents, Notifications, Deliveries, Deciding, Expectations)
FOLDED_TABLES = frozenset(table.name for one in _FOLDS for table in one.tables)
"""What a fold anew fills again: all but the recipients, which are on no line."""

_log = structlog.get_logger("notification")


async def migrate_notification(database_url: str, phase: Phase = "before") -> None:
    """Bring the tables up to date."""
    components = {
        "projection": checkpoints.MIGRATIONS,
        "timeline": timeline.MIGRATIONS,
        "consents": consents.MIGRATIONS,
        "notification": notifications.MIGRATIONS,
    }
    await migrate_service(database_url, "notification", components, phase=phase)


async def serve_notification(config: Config, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain calls and deliveries and give the leases back."""
    await migrate_notification(config.database_url)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                config.database_url,
                application="notification",
                size=_CONNECTIONS,
                settings=_PROJECTING,
            )
        )
        await stack.enter_async_context(emptied_to_fold_anew(pool, FOLDED_TABLES))
        nats = await stack.enter_async_context(connect_nats(config.nats_url, "notification"))
        store, owner, outbox = StoreClient(nats), uuid4(), Outbox(config.identity_secret)
        forget = forgetting(store, [one.identity_keys for one in config.readers.values()])
        reached = await stack.enter_async_context(
            follow_checkpoints(config.database_url, pool, forget)
        )
        runners = _runners(config, pool, store, outbox, reached, owner)
        sender = Sender(outbox, pool, store, runners, owner=owner)
        for give_back in (*[one.stop for one in runners], sender.stop):
            stack.push_async_callback(give_back)
        parts = Parts(
            *(pool, store, reached, config.tenants, config.readers),
            applications=_applications(stack, config, store),
            webhooks=config.webhooks,
        )
        worker = await stack.enter_async_context(
            delivering.worker(config, parts, outbox, runners, owner)
        )
        watch = deadlines.watch(runners, pool, store, outbox, reached, config.readers)
        await stack.enter_async_context(
            running(*[one.run() for one in runners], sender.run(), worker.run(), watch.run())
        )
        # Before the others stop: what is being sent is written down.
        stack.push_async_callback(worker.stop)

        def register(server: grpc.aio.Server) -> None:
            add_NotificationServiceServicer_to_server(NotificationService(parts), server)
            projection_api.registration(
                *(runners, config.database_url, store, pool, config.tenants, reached, CHECKS)
            )(server)

        server = await stack.enter_async_context(serve(config.listen, register, _SERVICES))
        _log.info("notification serves", listen=config.listen, port=server.port)
        with (
            observed(gauges.readings(runners)),
            observed(gauges.outbox_readings(sender)),
            observed(worker.readings()),
            observed(watch.readings()),
        ):
            await stop.wait()
        _log.info("notification drains")


def _runners(
    config: Config,
    pool: asyncpg.Pool,
    store: StoreClient,
    outbox: Outbox,
    reached: Checkpoints,
    owner: UUID,
) -> list[Runner]:
    folds = (
        IdentityGraph(),
        Timeline(),
        Consents(),
        Notifications(store, config.readers),
        Deliveries(store, config.readers),
        Deciding(
            *(pool, store, outbox, reached, config.readers),
            email_is_set_up=config.smtp is not None,
        ),
        Expectations(pool, store, outbox, reached, config.readers),
    )
    return [Runner(one, pool, store, owner, pace=PACE) for one in folds]


def _applications(
    stack: AsyncExitStack, config: Config, store: StoreClient
) -> dict[int, Applications]:
    """Return each tenant's aggregates, for as long as the stack is open."""
    lent = {}
    for tenant in config.tenants.all:
        keys = config.readers[tenant.number].identity_keys
        environment = stack.enter_context(aggregates.lend(store, tenant, keys))
        lent[tenant.number] = Applications(Rules(env=environment), Promises(env=environment))
    return lent


def main() -> None:
    """Run the service as a process, or with --migrate-only just its migrations."""
    told = read_arguments("notification", sys.argv[1:])
    traces = telemetry.setup("notification")
    try:
        if told.migrate:
            database_url = required(os.environ, "TOUCHLINE_DATABASE_URL")
            asyncio.run(migrate_notification(database_url, told.migrate))
            return
        config = read_config(os.environ)
        run(lambda stop: serve_notification(config, stop))
    except (SettingError, MigrationError, ListenError) as error:
        sys.exit(f"notification can't start: {error}")
    except FoldsAnew as end:
        sys.stderr.write(f"notification ends: {end}\n")
        sys.exit(START_AGAIN)
    finally:
        traces.shutdown()


if __name__ == "__main__":
    main()
