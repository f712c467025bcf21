"""Where somebody is reached: employees and teams as somebody said, customers by their events."""

import base64
import hmac
from collections.abc import Collection, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import asyncpg
from yarl import URL

from libs.eventstore.client import StoreClient
from libs.eventstore.errors import SealBroken
from libs.eventstore.records import open_identity
from libs.identity.normalise import IdentityError, canonical
from libs.postgres.queries import load_queries
from libs.projection.projection import Connection
from services.notification.calls import MAX_REFERENCE, WebhookSettings
from services.notification.deliveries.addresses import is_public
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL
from touchline.notification.v1.notification_pb2 import Recipient
from touchline.store.v1.store_pb2 import SealedIdentity

_MAX_URL: Final = 2048
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - how the standard begins every secret
_PURPOSE: Final = b"webhook\0"
_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


def webhook_secret(settings: WebhookSettings, tenant: str, reference: str) -> str:
    """Return the secret that signs webhooks to a recipient, as Standard Webhooks writes it.

    Args:
        settings: Hold the service's own secret.
        tenant: The tenant's name; names have no NUL, so no two recipients read alike.
        reference: The recipient.
    """
    message = _PURPOSE + f"{tenant}\0{reference}".encode()
    derived = hmac.digest(settings.secret, message, "sha256")
    return _SECRET_PREFIX + base64.b64encode(derived).decode()


def violations(recipient: Recipient, settings: WebhookSettings) -> Iterator[tuple[str, str]]:
    """Yield the field path and description of each thing that is wrong with a recipient."""
    if not 0 < len(recipient.reference) <= MAX_REFERENCE:
        yield "recipient.reference", f"must have 1 to {MAX_REFERENCE} characters"
    if not recipient.reference.isprintable():
        yield "recipient.reference", "has characters that can't be printed"
    if recipient.email:
        try:
            canonical(IDENTITY_KIND_EMAIL, "", recipient.email)
        except IdentityError as error:
            yield "recipient.email", error.description
    if recipient.webhook_url and (wrong := _wrong_url(recipient.webhook_url, settings.private)):
        yield "recipient.webhook_url", wrong


async def put(connection: Connection, tenant: int, recipient: Recipient) -> None:
    """Keep where a recipient is reached, in place of what was known, in a transaction."""
    await connection.execute(
        _SQL["put_recipient"],
        *(tenant, recipient.reference, recipient.email.strip(), recipient.webhook_url),
    )


async def all_of(database: asyncpg.Pool | Connection, tenant: int) -> list[Recipient]:
    """Return a tenant's recipients, by reference."""
    return [
        Recipient(reference=reference, email=email, webhook_url=webhook_url)
        for reference, email, webhook_url in await database.fetch(_SQL["recipients"], tenant)
    ]


async def recipient_of(
    database: asyncpg.Pool | Connection, tenant: int, reference: str
) -> Recipient:
    """Return where an employee or a team is reached; nowhere when nobody said."""
    row = await database.fetchrow(_SQL["recipient"], tenant, reference)
    email, webhook_url = row or ("", "")
    return Recipient(reference=reference, email=email, webhook_url=webhook_url)


async def email_of(
    database: asyncpg.Pool | Connection,
    store: StoreClient,
    tenant: int,
    keys: Collection[bytes],
    event: Event | None = None,
) -> str:
    """Return a customer's email address: one that an event names, else the first that was seen.

    Args:
        database: Of the identity graph.
        store: Gives the data keys.
        tenant: The tenant's number.
        keys: The customer's identity keys.
        event: Of the customer, opened.

    Returns:
        Empty when none is known, or none any more.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    for identity in event.identities if event is not None else ():
        if identity.kind == IDENTITY_KIND_EMAIL and identity.value:
            return identity.value.strip()
    rows = await database.fetch(_SQL["emails_of"], tenant, list(keys), IDENTITY_KIND_EMAIL)
    data_keys = await store.data_keys(tenant, [row["identity_key"] for row in rows])
    for key, kind, sealed_value, key_id in rows:
        sealed = SealedIdentity(
            identity_key=key, kind=kind, sealed_value=sealed_value, key_id=key_id
        )
        try:
            value = open_identity(sealed, data_keys).value
        except SealBroken:
            continue  # `touchline verify` finds it
        if value:
            return value.strip()
    return ""


def _wrong_url(text: str, private: bool) -> str:
    """Return what is wrong with where webhooks go; empty for nothing."""
    if len(text) > _MAX_URL:
        return f"has more than {_MAX_URL} characters"
    if not text.isprintable() or " " in text:
        return "has spaces or characters that can't be printed"
    try:
        url = URL(text)
        host, _ = url.host or "", url.port
    except ValueError:
        return "is no URL"
    if url.user or url.password or url.fragment:
        return "must have no user, no password and no fragment"
    if not host or url.scheme not in ("https", "http"):
        return "must be an https URL with a host"
    if url.scheme == "http" and not (private and _is_this_machine(host)):
        return "must be https; http is only for this machine, and where the settings allow it"
    if not private and not _may_be_public(host):
        return "leads to a private address, and the settings refuse those"
    return ""


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _may_be_public(host: str) -> bool:
    """Return whether a host can lead out; where a name leads is seen when connecting."""
    try:
        return is_public(host)
    except ValueError:
        return host != "localhost" and not host.endswith(".localhost")
