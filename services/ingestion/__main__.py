"""Runs the ingestion service: the sole owner of the event store, its relay and its NATS API."""

import asyncio
import os
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from uuid import uuid4

import asyncpg
import structlog
from nats.aio.client import Client as NatsClient

from libs import telemetry
from libs.eventstore import aggregates
from libs.eventstore import store as eventstore
from libs.eventstore.appender import Appender
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.eventstore.errors import (
    AnotherStore,
    StoreUnavailable,
    WrongIdentitySecret,
    WrongMasterKey,
)
from libs.eventstore.feed.relay import Relay
from libs.eventstore.keyring import Keyring
from libs.eventstore.other_stores import refuse_if_taken
from libs.eventstore.server import serve_store
from libs.eventstore.store import EventStore
from libs.postgres.migrations import MigrationError, Phase, migrate_service
from libs.postgres.pool import open_pool
from libs.rpc.arguments import read_arguments
from libs.rpc.errors import CallError
from libs.rpc.loop import run
from libs.rpc.server import ListenError, serve
from libs.rpc.settings import SettingError, required
from libs.tasks import running
from libs.telemetry.metrics import observed
from services.ingestion import gauges, quarantine
from services.ingestion.calls.parts import Parts
from services.ingestion.catalogue import Registering
from services.ingestion.config import Config, read_config
from services.ingestion.erasing import Erasing
from services.ingestion.event_types import EventTypes
from services.ingestion.grpc_api import IngestionService
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import Recorder, TenantSecrets
from services.ingestion.sweeping import sweep_after
from touchline.ingestion.v1.ingestion_service_pb2 import DESCRIPTOR
from touchline.ingestion.v1.ingestion_service_pb2_grpc import (
    add_IngestionServiceServicer_to_server,
)
from touchline.store.v1.store_pb2 import (
    AppendRequest,
    AppendResponse,
    EraseRequest,
    EraseResponse,
)

_SERVICE = DESCRIPTOR.services_by_name["IngestionService"].full_name
_CANT_START = (SettingError, MigrationError, WrongMasterKey, WrongIdentitySecret, ListenError)
# No append is a transaction of several statements; who freezes in another one loses its locks.
_SESSION = {"idle_in_transaction_session_timeout": "30s"}
_log = structlog.get_logger("ingestion")


async def migrate_ingestion(database_url: str, phase: Phase = "before") -> None:
    """Bring the store's and the service's own tables up to date."""
    components = {"eventstore": eventstore.MIGRATIONS, "ingestion": quarantine.MIGRATIONS}
    await migrate_service(database_url, "ingestion", components, phase=phase)


async def serve_ingestion(config: Config, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then drain: calls, the queue, the relay's lease."""
    await migrate_ingestion(config.database_url)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(
                config.database_url,
                application="ingestion",
                role=eventstore.ROLE,
                settings=_SESSION,
            )
        )
        nats = await stack.enter_async_context(connect_nats(config.nats_url, "ingestion"))
        # Like every service it reaches the line over NATS, where any replica may answer.
        lending = aggregates.lend_to_each(
            StoreClient(nats),
            config.tenants.all,
            config.identity_keys,
            lambda lent: Registering(env=lent),
        )
        parts = _put_together(config, pool, nats, stack.enter_context(lending))
        await parts.keyring.check_master_key()
        await parts.keyring.check_identity_secret(config.identity_check)
        await refuse_if_taken(nats, (await parts.store.head()).store_id)
        stack.push_async_callback(parts.relay.stop)
        await parts.event_types.look_at_all()
        if (await parts.keyring.renewed()).erasures:
            parts.erasing.done.set()  # it may have ended just before it swept
        loops = parts.relay.run(), parts.appender.run(), parts.event_types.follow()
        forgetting = parts.keyring.follow(), sweep_after(parts.erasing.done, config.database_url)
        await stack.enter_async_context(running(*loops, *forgetting))

        def appended(position: int) -> None:
            parts.relay.wake(position)
            parts.event_types.head_moved(position)

        listening = eventstore.listen(config.database_url, appended, parts.keyring.erased)
        await stack.enter_async_context(listening)

        def tenant_of(name: str) -> TenantSecrets:
            try:
                return parts.secrets[parts.tenants.named(name or "default").number]
            except CallError as error:
                raise ValueError(error.message) from error

        async def append(request: AppendRequest, traceparent: str) -> AppendResponse:
            secrets = tenant_of(request.tenant)
            response = await parts.recorder.append(secrets, request, traceparent)
            gauges.count_appended(verdict.outcome for verdict in response.verdicts)
            return response

        async def erase(request: EraseRequest, traceparent: str) -> EraseResponse:
            return await parts.erasing.erase(tenant_of(request.tenant), request, traceparent)

        # Before anybody is answered: whoever serves outlives a store that is lost.
        head = await parts.store.head()
        serving = serve_store(nats, parts.store, parts.keyring, append, erase)
        await stack.enter_async_context(serving)
        server = await stack.enter_async_context(
            serve(
                config.listen,
                lambda server: add_IngestionServiceServicer_to_server(
                    IngestionService(parts), server
                ),
                [_SERVICE],
            )
        )
        _log.info("ingestion serves", listen=config.listen, port=server.port, head=head.position)
        told = gauges.readings(parts.appender, parts.relay, head.position)
        with observed(told):
            await stop.wait()
        _log.info("ingestion drains", queued=parts.appender.queued_events)


def _put_together(
    config: Config, pool: asyncpg.Pool, nats: NatsClient, registering: Mapping[int, Registering]
) -> Parts:
    store = EventStore(pool)
    relay = Relay(pool, store, nats, uuid4(), feed_replicas=config.feed_replicas)
    appender = Appender(store, relay.hand_over)
    identity_keys = config.identity_keys

    def forget() -> None:
        for keys in identity_keys.values():
            keys.forget()

    keyring = Keyring(pool, config.master_key, forget)
    kept = Quarantine(pool, config.master_key)
    event_types = EventTypes(pool, keyring, identity_keys)
    return Parts(
        store=store,
        appender=appender,
        keyring=keyring,
        quarantine=kept,
        event_types=event_types,
        registering=registering,
        recorder=Recorder(store, appender, keyring, kept, event_types),
        erasing=Erasing(store, keyring, kept),
        relay=relay,
        nats=nats,
        tenants=config.tenants,
        secrets=config.secrets,
    )


def main() -> None:
    """Run the service as a process, or with --migrate-only just its migrations."""
    told = read_arguments("ingestion", sys.argv[1:], folds=False)
    traces = telemetry.setup("ingestion")
    try:
        if told.migrate:
            database_url = required(os.environ, "TOUCHLINE_DATABASE_URL")
            asyncio.run(migrate_ingestion(database_url, told.migrate))
            return
        config = read_config(os.environ)
        run(lambda stop: serve_ingestion(config, stop))
    except _CANT_START as error:
        sys.exit(f"ingestion can't start: {error}")
    except (AnotherStore, StoreUnavailable) as error:
        sys.exit(f"ingestion can't serve: {error}")
    finally:
        traces.shutdown()


if __name__ == "__main__":
    main()
