"""How a service that folds begins and ends as a process, and what its parts are connected to."""

import asyncio
import os
import sys
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
)
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import asyncpg

from libs import telemetry
from libs.eventstore.client import StoreClient
from libs.eventstore.connection import connect_nats
from libs.postgres.migrations import MigrationError, Phase
from libs.postgres.pool import open_pool
from libs.projection.checkpoints import FoldsAnew
from libs.projection.config import FoldingConfig
from libs.projection.erasing import forgetting
from libs.projection.generations.worker import CannotFill
from libs.projection.restored import emptied_to_fold_anew
from libs.projection.serving import Serving
from libs.projection.waiting import Checkpoints, follow_checkpoints
from libs.rpc.arguments import Role, read_arguments
from libs.rpc.loop import run
from libs.rpc.server import ListenError
from libs.rpc.settings import SettingError, required
from libs.tasks import START_AGAIN

Config = TypeVar("Config", bound=FoldingConfig)


class Connected(NamedTuple):
    """What the parts of a process share.

    Attributes:
        pool: Connections to the service's own database; they find the tables that answer.
        store: History, data keys, the head, and appending.
        checkpoints: How far the projections came.
    """

    pool: asyncpg.Pool
    store: StoreClient
    checkpoints: Checkpoints


@asynccontextmanager
async def connected(
    service: str,
    config: FoldingConfig,
    serving: Serving,
    folded_tables: Collection[str],
    settings: Mapping[str, str],
    connections: int = 10,
) -> AsyncIterator[Connected]:
    """Connect a service's process until the block ends.

    Args:
        service: Its name, for servers to tell its connections from others.
        config: Where they are; the database is migrated.
        serving: What it reads.
        folded_tables: What is emptied when it has to fold anew, as after the store was restored.
        settings: Of the database's sessions.
        connections: To the database, at most.
    """
    async with (
        open_pool(
            config.database_url,
            application=service,
            size=connections,
            settings=settings,
            setup=serving.setup,
        ) as pool,
        emptied_to_fold_anew(pool, folded_tables),
        connect_nats(config.nats_url, service) as nats,
    ):
        store = StoreClient(nats)
        forget = forgetting(store, config.identity_keys.values())
        async with follow_checkpoints(config.database_url, pool, forget, serving) as checkpoints:
            yield Connected(pool, store, checkpoints)


def run_service(
    service: str,
    read_config: Callable[[Mapping[str, str]], Config],
    *,
    migrate: Callable[[str, Phase], Coroutine[Any, Any, None]],
    serve: Callable[[Config, asyncio.Event, frozenset[Role]], Awaitable[None]],
    rebuild: Callable[[Config, asyncio.Event, int], Awaitable[None]],
) -> None:
    """Run a service as this process, as its arguments and its environment say; then end it.

    Args:
        service: Its name.
        read_config: Reads its settings.
        migrate: Brings its database, by URL, up to date.
        serve: Does what roles say until the event is set.
        rebuild: Fills a generation until it follows or the event is set.
    """
    told = read_arguments(service, sys.argv[1:])
    traces = telemetry.setup(service)
    try:
        if told.migrate:
            database_url = required(os.environ, "TOUCHLINE_DATABASE_URL")
            asyncio.run(migrate(database_url, told.migrate))
            return
        config = read_config(os.environ)
        if told.rebuild:
            run(lambda stop: rebuild(config, stop, told.rebuild))
            return
        run(lambda stop: serve(config, stop, told.roles))
    except (SettingError, MigrationError, ListenError) as error:
        sys.exit(f"{service} can't start: {error}")
    except CannotFill as end:
        sys.exit(f"{service} can't rebuild: {end}")
    except FoldsAnew as end:
        sys.stderr.write(f"{service} ends: {end}\n")
        sys.exit(START_AGAIN)
    finally:
        traces.shutdown()
