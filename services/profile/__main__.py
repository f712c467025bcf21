"""Runs the profile service: its projections, and the reads that they serve."""

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

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
from libs.projection.process import connected, run_service
from libs.projection.projection import Projection
from libs.projection.runner import QUICK_PACE
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.timeline import Timeline
from libs.rpc.arguments import ALL_ROLES, Role
from libs.tasks import running
from libs.telemetry.metrics import observed
from services.profile import attributes
from services.profile.attributes import AttributeValues
from services.profile.calls.parts import Parts
from services.profile.config import Config, read_config
from services.profile.erasing import CHECKS
from services.profile.grpc_api import ProfileService
from services.profile.identities.aggregates import ProfileDecisions
from services.profile.identities.recording import Deciding
from services.profile.reading import Profiles
from touchline.profile.v1.profile_service_pb2 import DESCRIPTOR
from touchline.profile.v1.profile_service_pb2_grpc import add_ProfileServiceServicer_to_server

_SERVICE = DESCRIPTOR.services_by_name["ProfileService"].full_name
# State and checkpoint rewind together, and the events are safe in the store.
_PROJECTING = {
    "synchronous_commit": "off",
    # A process that froze in a transaction must not hold up the one that takes over.
    "idle_in_transaction_session_timeout": "10s",
    # Everything is read by keys. A plan that was made while a table was small would go on reading
    # the whole of it, and compare each row with each of a profile's identities.
    "enable_seqscan": "off",
}
_FOLDS = (IdentityGraph, Timeline, Consents, AttributeValues)
_READS = {one.name: one.fold_version for one in _FOLDS}
FOLDED_TABLES = frozenset(table.name for one in _FOLDS for table in one.tables)
"""What a fold anew fills again."""

_log = structlog.get_logger("profile")


async def migrate_profile(database_url: str, phase: Phase = "before") -> None:
    """Bring the projections' tables up to date."""
    components = {
        "projection": checkpoints.MIGRATIONS,
        "timeline": timeline.MIGRATIONS,
        "consents": consents.MIGRATIONS,
        "attributes": attributes.MIGRATIONS,
    }
    await migrate_service(database_url, "profile", components, phase=phase)


def folds_of(config: Config, store: StoreClient) -> tuple[Projection, ...]:
    """Return all that the service folds."""
    return IdentityGraph(), Timeline(), Consents(), AttributeValues(store, config.readers)


async def serve_profile(
    config: Config, stop: asyncio.Event, roles: frozenset[Role] = ALL_ROLES
) -> None:
    """Do what the roles say until `stop` is set, then drain the calls and give the leases back."""
    await migrate_profile(config.database_url)
    async with AsyncExitStack() as stack:
        serving = Serving(_READS)
        pool, store, reached = await stack.enter_async_context(
            connected("profile", config, serving, FOLDED_TABLES, _PROJECTING)
        )
        owner = uuid4()
        crew = Crew(
            *(config.database_url, pool, store, owner, folds_of(config, store)),
            settings=_PROJECTING,
            serving=serving,
            pace=QUICK_PACE,
            projects=Role.PROJECT in roles,
        )
        stack.push_async_callback(crew.stop)
        await stack.enter_async_context(running(crew.run()))
        if Role.PROJECT in roles:
            keeper = Keeper(pool, crew.projections, "services.profile")
            stack.push_async_callback(keeper.stop)
            await stack.enter_async_context(running(keeper.run()))
        lending = aggregates.lend_to_each(
            store, config.tenants.all, config.identity_keys, ProfileDecisions
        )
        deciding = Deciding(pool, store, reached, stack.enter_context(lending))
        parts = Parts(
            *(pool, store, Profiles(pool, store), deciding),
            *(reached, config.tenants, config.readers),
        )
        port = await stack.enter_async_context(
            answering(
                Listening(config.listen, config.worker_listen, Role.SERVE in roles),
                _SERVICE,
                lambda server: add_ProfileServiceServicer_to_server(ProfileService(parts), server),
                projection_api.registration(
                    *(crew, config.database_url, store, pool, config.tenants),
                    *(reached, CHECKS),
                ),
                serving,
            )
        )
        _log.info("profile serves", roles=sorted(roles), port=port)
        with observed(gauges.readings(crew.runners, crew.projections, serving.is_paused)):
            await stop.wait()
        _log.info("profile drains")


async def rebuild_profile(config: Config, stop: asyncio.Event, generation: int) -> None:
    """Fill a generation until it follows or `stop` is set."""
    async with connect_nats(config.nats_url, "profile") as nats:
        store = StoreClient(nats)
        folds = named(folds_of(config, store))
        await run_worker(generation, config.database_url, store, folds, stop, _PROJECTING)


def main() -> None:
    """Run the service as a process: its roles, just its migrations, or a rebuild."""
    run_service(
        "profile",
        read_config,
        migrate=migrate_profile,
        serve=serve_profile,
        rebuild=rebuild_profile,
    )


if __name__ == "__main__":
    main()
