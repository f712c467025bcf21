"""Where the databases, migrations and secrets of this installation are, beside its services."""

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from libs.backup import PARTS, STORE, BackupError, SecretsAtHand
from libs.cli.stack import CHECKOUT, SERVICES
from libs.embedded import database_beside, load_secrets, run_database
from libs.embedded.home import SECRETS_FILE, is_held
from libs.embedded.servers import DATABASE_URL
from libs.eventstore import store as eventstore
from libs.projection import checkpoints, consents, timeline

_MASTER_KEY: Final = "TOUCHLINE_MASTER_KEY"
_IDENTITY_SECRET: Final = "TOUCHLINE_IDENTITY_SECRET"  # noqa: S105 - its name, not its value
_SECRET_BYTES: Final = 32
_OWN = {one.name: one.database for one in SERVICES}

DATABASES: Final[Mapping[str, str]] = {
    part.name: _OWN[SERVICES[0].name if part is STORE else part.name] for part in PARTS
}
"""The databases that are part of a backup, by part."""


def migrations() -> dict[str, Path]:
    """Return the directories of all components' migrations."""
    services = {one.name: CHECKOUT / "services" / one.name / "migrations" for one in SERVICES}
    return {
        "eventstore": eventstore.MIGRATIONS,
        "projection": checkpoints.MIGRATIONS,
        "consents": consents.MIGRATIONS,
        "timeline": timeline.MIGRATIONS,
        "attributes": CHECKOUT / "services" / "profile" / "attributes" / "migrations",
        **{name: directory for name, directory in services.items() if directory.is_dir()},
    }


def secrets_at_hand(
    home: Path, environment: Mapping[str, str] = os.environ
) -> SecretsAtHand | None:
    """Return the master key and the identity secret; None: they are not here.

    With TOUCHLINE_DATABASE_URL they come from TOUCHLINE_MASTER_KEY and TOUCHLINE_IDENTITY_SECRET
    where these are set, otherwise from the home.

    Raises:
        BackupError: they are malformed, or one is missing.
        StartFailed: The home's can't be read.
    """
    if environment.get(DATABASE_URL) and environment.get(_MASTER_KEY):
        named = f"{_MASTER_KEY} and {_IDENTITY_SECRET}"
        found = [environment.get(name, "") for name in (_MASTER_KEY, _IDENTITY_SECRET)]
    elif (home / SECRETS_FILE).exists():
        secrets, named = load_secrets(home), str(home / SECRETS_FILE)
        found = [secrets.master_key, secrets.identity_secret]
    else:
        return None
    try:
        master_key, identity_secret = [bytes.fromhex(text) for text in found]
    except ValueError:
        master_key = identity_secret = b""
    if len(master_key) != _SECRET_BYTES or len(identity_secret) != _SECRET_BYTES:
        raise BackupError(f"The secrets in {named} are not 64 hexadecimal digits each.")
    return SecretsAtHand(named, master_key, identity_secret)


@asynccontextmanager
async def running_database(
    home: Path, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[str]:
    """Give the URL of this installation's PostgreSQL, which is started if nothing runs.

    Raises:
        BackupError: there is no installation.
        HomeBusy, StartFailed: It can't be started.
    """
    if url := environment.get(DATABASE_URL):
        yield url
        return
    if not (home / "postgres").exists():
        raise BackupError(
            f"There is no installation in {home}. Set TOUCHLINE_HOME to where it is, or "
            f"{DATABASE_URL} to its PostgreSQL."
        )
    if not is_held(home):
        async with run_database(home, environment=environment) as url:
            yield url
        return
    if (url := database_beside(home)) is None:
        raise BackupError(
            f"What runs on {home} has no PostgreSQL there, or has not started it yet. If it uses "
            f"another one, set {DATABASE_URL} as it is set for that."
        )
    yield url


@asynccontextmanager
async def stopped_database(
    home: Path, environment: Mapping[str, str] = os.environ
) -> AsyncIterator[str]:
    """Give the URL of this installation's PostgreSQL, of which nothing else runs.

    Raises:
        HomeBusy: Something runs on the home.
        StartFailed: It can't be started.
    """
    url = environment.get(DATABASE_URL)
    if url and not (home / SECRETS_FILE).exists():
        yield url
        return
    async with run_database(home, environment=environment) as url:
        yield url
