"""Finds out how those are reached whom rules tell, for many notices at once."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from libs.consents import NOTHING_SAID
from libs.eventstore.client import StoreClient
from libs.postgres.queries import load_queries
from libs.projection.consents import words_before
from libs.projection.projection import Recorded
from services.notification.domain.channels import Addressee
from services.notification.domain.evaluation import Told
from services.notification.domain.rules import CompiledRule
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL
from touchline.notification.v1.notification_pb2 import Notice

_SQL: Final = load_queries(Path(__file__).with_name("queries.sql"))


class Meant(NamedTuple):
    """A notice that a rule rendered about an event."""

    cause: Recorded
    rule: CompiledRule
    told: Told

    @property
    def notice(self) -> Notice:
        """What the rule says."""
        return self.rule.definition.notices[self.told.notice]


async def addressees_of(
    pool: asyncpg.Pool, store: StoreClient, meant: Sequence[Meant]
) -> list[Addressee]:
    """Return what is known of whom each notice is for, in their order.

    Raises:
        StoreUnavailable: the data keys can't be got.
    """
    reached = await _reached(pool, meant)
    with_email = await _customers_with_email(pool, meant)
    asking = {
        place: one.cause
        for place, one in enumerate(meant)
        if one.notice.purpose or one.told.recipient.customer
    }
    said = await words_before(pool, store, asking)
    found = []
    for place, one in enumerate(meant):
        record = one.cause.record
        if one.told.recipient.customer:
            known, email, webhook = False, (record.tenant, record.owner_key) in with_email, False
        else:
            name = (record.tenant, one.told.recipient.reference)
            known, (email, webhook) = name in reached, reached.get(name, (False, False))
        found.append(
            Addressee(
                customer=one.told.recipient.customer,
                known=known,
                email=email,
                webhook=webhook,
                said=said.get(place, NOTHING_SAID),
                identity_key=record.owner_key,
            )
        )
    return found


async def _reached(
    pool: asyncpg.Pool, meant: Iterable[Meant]
) -> dict[tuple[int, str], tuple[bool, bool]]:
    names = {
        (one.cause.record.tenant, one.told.recipient.reference)
        for one in meant
        if not one.told.recipient.customer and one.notice.channels
    }
    if not names:
        return {}
    columns = [list(column) for column in zip(*sorted(names), strict=True)]
    rows = await pool.fetch(_SQL["recipients_named"], *columns)
    return {(tenant, name): (email, webhook) for tenant, name, email, webhook in rows}


async def _customers_with_email(
    pool: asyncpg.Pool, meant: Iterable[Meant]
) -> set[tuple[int, bytes]]:
    owners = {
        (one.cause.record.tenant, one.cause.record.owner_key)
        for one in meant
        if one.told.recipient.customer and one.notice.channels
    }
    if not owners:
        return set()
    columns = [list(column) for column in zip(*sorted(owners), strict=True)]
    rows = await pool.fetch(_SQL["customers_with"], *columns, IDENTITY_KIND_EMAIL)
    return {(tenant, owner_key) for tenant, owner_key in rows}
