"""Whose a database is: empty, a service's of ours, or somebody else's."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from libs.postgres.queries import load_queries

# The component of the row that names the service whose database it is.
OWNER: Final = "owner"
_COLUMNS: Final = {"component", "number", "name", "checksum", "applied_at"}
_MIGRATIONS: Final = "schema_migrations"
_NAMED: Final = 3

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a database.

    Attributes:
        applied: The rows of our table of migrations, if there is one.
        tables: The names of all tables and views; those outside the schema public with theirs.
        ours: Whether the table of migrations is there, and is ours.
    """

    applied: tuple[asyncpg.Record, ...]
    tables: tuple[str, ...]
    ours: bool

    @property
    def owner(self) -> str | None:
        """The service whose database it is; None if nobody, or a former release, said so."""
        return next((row["name"] for row in self.applied if row["component"] == OWNER), None)

    @property
    def components(self) -> set[str]:
        """Whose migrations ran."""
        return {row["component"] for row in self.applied} - {OWNER}


async def contents_of(connection: asyncpg.Connection) -> Contents:
    """Looks at a database, and changes nothing."""
    # At one moment: another process may be making it.
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        columns = {row["attname"] for row in await connection.fetch(_SQL["migrations_columns"])}
        ours = columns == _COLUMNS
        return Contents(
            applied=tuple(await connection.fetch(_SQL["applied"])) if ours else (),
            tables=tuple(row["name"] for row in await connection.fetch(_SQL["tables"])),
            ours=ours,
        )


def refusal(found: Contents, service: str, components: Collection[str]) -> str | None:
    """Says why a service may not use a database, or None if it may.

    It may use an empty one, its own, and what a former release made, which named no owner: the
    service then finds components of its own there, not necessarily all, and no other's.

    Args:
        found: What is in the database.
        service: Such as `profile`.
        components: Whose tables the service makes.
    """
    if found.owner == service:
        return None
    if found.owner is not None:
        return f"it belongs to the {found.owner} service"
    if not found.components:
        # What an interrupted start left: our table of migrations, without a row.
        foreign = [name for name in found.tables if not (found.ours and name == _MIGRATIONS)]
        return _holds(foreign) if foreign else None
    known = {*components, service}  # a component was once called as its service
    # Services share components; one that has a component of its own name is known by it.
    if not found.components <= known or (service in components) > (service in found.components):
        others = ", ".join(sorted(found.components))
        return f"it holds tables of another service (of the components {others})"
    return None


def _holds(tables: list[str]) -> str:
    names = ", ".join(tables[:_NAMED]) + (", …" if len(tables) > _NAMED else "")
    count = "a table" if len(tables) == 1 else f"{len(tables)} tables"
    return f"it holds {count} that Touchline did not make ({names})"
