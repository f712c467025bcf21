"""Ends an upgrade on a laptop, where no older release is left once this one answers."""

from collections.abc import Mapping
from pathlib import Path

import asyncpg

from libs.cli.stack import SERVICES
from libs.embedded import database_url_for
from libs.embedded.process import OnLine
from libs.postgres.migrations import MigrationError, migrate_service, read_migrations
from libs.postgres.ownership import contents_of
from libs.postgres.pool import UNREACHABLE


async def finish_upgrade(server_url: str, migrations: Mapping[str, Path], on_line: OnLine) -> None:
    """Run the migrations that run after the code, in each service's database.

    What fails is told, and left for the next time: everything runs without it.

    Args:
        server_url: Of any database of the PostgreSQL that has them all.
        migrations: The directories of all components' migrations.
        on_line: Called with a service's name and what became of its database.
    """
    known = [one for name in migrations for one in read_migrations(name, migrations[name])]
    after = {one.component for one in known if one.phase == "after"}
    if not after:
        return
    for service in SERVICES:
        url = database_url_for(server_url, service.database)
        try:
            ours = {name: migrations[name] for name in after & await _components(url)}
            ran = await migrate_service(url, service.name, ours, phase="after") if ours else []
        except (MigrationError, asyncpg.PostgresError, *UNREACHABLE) as error:
            told = str(error) if isinstance(error, MigrationError) else type(error).__name__
            on_line(service.name, f"its upgrade is not finished: {told}")
        else:
            if ran:
                on_line(service.name, f"its upgrade is finished: {', '.join(ran)}")


async def _components(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return (await contents_of(connection)).components
    finally:
        await connection.close()
