"""Reads and writes what a database says of its generations."""

from pathlib import Path
from typing import Final

import asyncpg

from libs.postgres.queries import load_queries
from libs.projection.generations.generation import Generation
from libs.projection.projection import Connection

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


async def generations(database: asyncpg.Pool | Connection) -> list[Generation]:
    """Return every generation of a database, the oldest first."""
    return [Generation(*row) for row in await database.fetch(_SQL["generations"])]


async def serving(
    database: asyncpg.Pool | Connection, projection: str, fold_version: int
) -> Generation | None:
    """Return the generation that processes of a fold version read; None while there is none."""
    row = await database.fetchrow(_SQL["serving"], projection, fold_version)
    return None if row is None else Generation(*row)


async def introduce(
    database: asyncpg.Pool | Connection, projection: str, fold_version: int
) -> None:
    """Begin the first generation of a projection, in the schema public, unless it has one.

    Only there is a projection whose database is new; every later generation is filled beside.
    """
    await database.execute(_SQL["introduce"], projection, fold_version)
