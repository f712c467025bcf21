"""Runs the profile service: its projections, and the reads that they serve."""

import asyncio
import os
import sys
from contextlib import AsyncExitStack
from uuid import uuid4

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
from libs.projection.generations.keeping import Keeper
from libs.projection.generations.worker import CannotFill, run_worker
from libs.projection.hosting import Listening, answering
from libs.projection.identity_graph import IdentityGraph
from libs.projection.projection import Projection
from libs.projection.restored import emptied_to_fold_anew
from libs.projection.runner import QUICK_PACE
from libs.projection.serving import Serving
from libs.projection.sharing import Crew
from libs.projection.timeline import Timeline
from libs.projection.waiting import follow_checkpoints
from libs.rpc.arguments import ALL_ROLES, Role, read_arguments
from libs.rpc.loop import run
from libs.rpc.server import ListenError
from libs.rpc.settings import SettingError, required
from libs.tasks import START_AGAIN, running
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
        pool = await stack.enter_async_context(
            open_pool(
                config.database_url,
                application="profile",
                settings=_PROJECTING,
                setup=serving.setup,
            )
        )
        await stack.enter_async_context(emptied_to_fold_anew(pool, FOLDED_TABLES))
        nats = await stack.enter_async_context(connect_nats(config.nats_url, "profile"))
        store, owner = StoreClient(nats), uuid4()
        forget = forgetting(store, [one.identity_keys for one in config.readers.values()])
        reached = await stack.enter_async_context(
            follow_checkpoints(config.database_url, pool, forget, serving)
        )
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
        deciding = Deciding(pool, store, reached, _applications(stack, config, store))
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
        folds = {one.name: one for one in folds_of(config, store)}

        async def projection(name: str) -> Projection | None:
            return folds.get(name)

        await run_worker(generation, config.database_url, store, projection, stop, _PROJECTING)


def _applications(
    stack: AsyncExitStack, config: Config, store: StoreClient
) -> dict[int, ProfileDecisions]:
    """Return each tenant's aggregates, for as long as the stack is open."""
    lent = {}
    for tenant in config.tenants.all:
        keys = config.readers[tenant.number].identity_keys
        environment = stack.enter_context(aggregates.lend(store, tenant, keys))
        lent[tenant.number] = ProfileDecisions(environment)
    return lent


def main() -> None:
    """Run the service as a process: its roles, just its migrations, or a rebuild."""
    told = read_arguments("profile", sys.argv[1:])
    traces = telemetry.setup("profile")
    try:
        if told.migrate:
            database_url = required(os.environ, "TOUCHLINE_DATABASE_URL")
            asyncio.run(migrate_profile(database_url, told.migrate))
            return
        config = read_config(os.environ)
        if told.rebuild:
            run(lambda stop: rebuild_profile(config, stop, told.rebuild))
            return
        run(lambda stop: serve_profile(config, stop, told.roles))
    except (SettingError, MigrationError, ListenError) as error:
        sys.exit(f"profile can't start: {error}")
    except CannotFill as end:
        sys.exit(f"profile can't rebuild: {end}")
    except FoldsAnew as end:
        sys.stderr.write(f"profile ends: {end}\n")
        sys.exit(START_AGAIN)
    finally:
        traces.shutdown()


if __name__ == "__main__":
    main()
