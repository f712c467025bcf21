"""Tells that a process lives, and which others do."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import asyncpg

from libs.postgres.pool import UNREACHABLE
from libs.postgres.queries import load_queries
from libs.projection.sharing.shares import Worker

_BEAT_SECONDS: Final = 1.0
# Longer than a busy machine keeps a process from telling, shorter than a lease.
_LIVING: Final = timedelta(seconds=4)
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Heartbeat:
    """One process's row in projection_workers.

    Args:
        pool: Connections to the database.
        owner: Names the process.
        folds: Whether it takes ranges of views.
        reacts: Returns whether it takes reactors now.
        fold_versions: Returns the fold version of each view that it reads now.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        owner: UUID,
        *,
        folds: bool,
        reacts: Callable[[], bool],
        fold_versions: Callable[[], Mapping[str, int]],
    ) -> None:
        self._pool = pool
        self._owner = owner
        self._folds, self._reacts = folds, reacts
        self._fold_versions = fold_versions

    @property
    def me(self) -> Worker:
        """This process, as the others see it."""
        return Worker(self._owner, self._folds, self._reacts(), self._fold_versions())

    async def run(self) -> None:
        """Tell for ever that the process lives; run it as a task."""
        while True:
            with suppress(asyncpg.PostgresError, TimeoutError, *UNREACHABLE):
                await self.tell()
            await asyncio.sleep(_BEAT_SECONDS)

    async def tell(self) -> None:
        """Tell once, and everybody when the process is new."""
        joined = await self._pool.fetchval(
            _SQL["live"],
            *(self._owner, f"{socket.gethostname()}:{os.getpid()}", self._folds, self._reacts()),
            json.dumps(dict(self._fold_versions())),
        )
        if joined:
            await self._pool.execute(_SQL["changed"])
            await self._pool.execute(_SQL["forget_dead"])

    async def living(self) -> list[Worker]:
        """Return the processes that live."""
        return [
            Worker(row["owner"], row["folds"], row["reacts"], json.loads(row["fold_versions"]))
            for row in await self._pool.fetch(_SQL["living"], _LIVING)
        ]
