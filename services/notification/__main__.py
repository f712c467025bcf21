"""Runs the notification service: what it folds, decides, sends and answers."""

import asyncio
from contextlib import AsyncExitStack
from uuid import UUID, uuid4

import structlog

from libs.eventstore import aggregates
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.migrations import Phase, migrate_service
from libs.projection import checkpoints, consents, gauges, timeline
from libs.projection import grpc_api as projection_api
from libs.projection.consents import Consents
from libs.projection.generations.keeping import Keeper
from libs.projection.generations.worker import named, run_worker
from libs.projection.hosting import Listening, answering
from libs.projection.identity_graph import IdentityGraph
from libs.projection.outbox import Outbox, Sender
from libs.projection.process import connected, run_service
from libs.projection.projection import Projection
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.timeline import Timeline
from libs.rpc.arguments import ALL_ROLES, Role
from libs.tasks import running
from libs.telemetry import declared
from libs.telemetry.metrics import Reading, observed
from services.notification.calls import Applications, Parts
from services.notification.config import Config, read_config
from services.notification.deliveries import worker as delivering
from services.notification.deliveries.taking_in import Deliveries
from services.notification.erasing import CHECKS
from services.notification.expectations.deadlines import Deadlines
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

_SERVICE = DESCRIPTOR.services_by_name["NotificationService"].full_name
# State and checkpoint rewind together. What must not rewind asks for its commit to wait.
_PROJECTING = {
    "synchronous_commit": "off",
    # A process that froze in a transaction must not hold up the one that takes over.
    "idle_in_transaction_session_timeout": "10s",
}
_CONNECTIONS = 20
_VIEWS = (IdentityGraph, Timeline, Consents, Notifications)
_REACTORS = (Deliveries, Deciding, Expectations)
_READS = {one.name: one.fold_version for one in _VIEWS}
FOLDED_TABLES = frozenset(table.name for one in (*_VIEWS, *_REACTORS) for table in one.tables)
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


def views_of(config: Config, store: StoreClient) -> tuple[Projection, ...]:
    """Return all that the service folds but for what also decides."""
    return IdentityGraph(), Timeline(), Consents(), Notifications(store, config.readers)


async def serve_notification(
    config: Config, stop: asyncio.Event, roles: frozenset[Role] = ALL_ROLES
) -> None:
    """Do what the roles say until `stop` is set, then drain, and give the leases back."""
    await migrate_notification(config.database_url)
    async with AsyncExitStack() as stack:
        serving = Serving(_READS)
        pool, store, reached = await stack.enter_async_context(
            connected("notification", config, serving, FOLDED_TABLES, _PROJECTING, _CONNECTIONS)
        )
        owner, outbox = uuid4(), Outbox(config.identity_secret)
        lending = aggregates.lend_to_each(
            store,
            config.tenants.all,
            config.identity_keys,
            lambda lent: Applications(Rules(env=lent), Promises(env=lent)),
        )
        parts = Parts(
            *(pool, store, reached, config.tenants, config.readers),
            applications=stack.enter_context(lending),
            webhooks=config.webhooks,
        )
        expectations = Expectations(pool, store, outbox, reached, config.readers)
        crew = Crew(
            *(config.database_url, pool, store, owner),
            (
                *views_of(config, store),
                Deliveries(store, config.readers),
                Deciding(
                    *(pool, store, outbox, reached, config.readers),
                    email_is_set_up=config.smtp is not None,
                ),
                expectations,
            ),
            settings=_PROJECTING,
            serving=serving,
            projects=Role.PROJECT in roles,
            reacts=Role.REACT in roles,
        )
        stack.push_async_callback(crew.stop)
        await stack.enter_async_context(running(crew.run()))
        if Role.PROJECT in roles:
            keeper = Keeper(pool, crew.projections, "services.notification")
            stack.push_async_callback(keeper.stop)
            await stack.enter_async_context(running(keeper.run()))
        gauged = [gauges.readings(crew.runners, crew.projections, serving.is_paused)]
        if Role.REACT in roles:
            gauged += await _reacting(stack, config, parts, outbox, crew, expectations, owner)
        port = await stack.enter_async_context(
            answering(
                Listening(config.listen, config.worker_listen, Role.SERVE in roles),
                _SERVICE,
                lambda server: add_NotificationServiceServicer_to_server(
                    NotificationService(parts), server
                ),
                projection_api.registration(
                    *(crew, config.database_url, store, pool, config.tenants),
                    *(reached, CHECKS),
                ),
                serving,
            )
        )
        _log.info("notification serves", roles=sorted(roles), port=port)
        for one in gauged:
            stack.enter_context(observed(one))
        await stop.wait()
        _log.info("notification drains")


async def _reacting(
    stack: AsyncExitStack,
    config: Config,
    parts: Parts,
    outbox: Outbox,
    crew: Crew,
    expectations: Expectations,
    owner: UUID,
) -> list[dict[declared.Metric, Reading]]:
    """Append and deliver what is decided, and watch deadlines, for as long as the stack is open."""
    folds = list(crew.projections.values())
    sender = Sender(outbox, parts.pool, parts.store, folds, owner=owner)
    stack.push_async_callback(sender.stop)
    worker = await stack.enter_async_context(
        delivering.worker(config, parts, outbox, [one.name for one in folds], owner)
    )
    watch = Deadlines(
        *(expectations, crew.runners, parts.pool, parts.store, outbox),
        *(parts.checkpoints, config.readers),
    )
    await stack.enter_async_context(running(sender.run(), worker.run(), watch.run()))
    # Before the others stop: what is being sent is written down.
    stack.push_async_callback(worker.stop)
    return [gauges.outbox_readings(sender), worker.readings(), watch.readings()]


async def rebuild_notification(config: Config, stop: asyncio.Event, generation: int) -> None:
    """Fill a generation until it follows or `stop` is set."""
    async with connect_nats(config.nats_url, "notification") as nats:
        store = StoreClient(nats)
        folds = named(views_of(config, store))
        await run_worker(generation, config.database_url, store, folds, stop, _PROJECTING)


def main() -> None:
    """Run the service as a process: its roles, just its migrations, or a rebuild."""
    run_service(
        "notification",
        read_config,
        migrate=migrate_notification,
        serve=serve_notification,
        rebuild=rebuild_notification,
    )


if __name__ == "__main__":
    main()
