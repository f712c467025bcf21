"""Reads the whole line again and says whether it is what was recorded."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from libs.eventstore.chain import extend
from libs.eventstore.errors import SealBroken
from libs.eventstore.keyring import Keyring
from libs.eventstore.records import content_hash_of, identity_keys
from libs.eventstore.store import EventStore
from touchline.store.v1.store_pb2 import EventBatch, RecordedEvent

MAX_PROBLEMS: Final = 100


@dataclass(slots=True)
class Verification:
    """How far a verification came, and what it found."""

    head: int
    checked: int = 0
    sealed: int = 0
    problems: list[str] = field(default_factory=list)
    finished: bool = False

    def report(self, problem: str) -> None:
        """Note what is wrong; beyond the first hundred it adds nothing."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)


async def verify(
    store: EventStore, keyring: Keyring, secrets: Mapping[int, bytes]
) -> AsyncIterator[Verification]:
    """Yield the state of a verification after each page; the last one is finished.

    Positions must be contiguous, the chain must be the hashes', the head must be the last event's,
    each event must open, and its hash must be that of its content. An event whose keys are gone
    counts as sealed: its hash can't be recomputed, and the chain still holds it.

    Args:
        store: The line.
        keyring: Opens the events.
        secrets: The tenants' secrets by their numbers.
    """
    head = await store.head()
    state = Verification(head=head.position)
    position, chain = 0, bytes(32)
    while position < head.position:
        page = await store.history(position)
        if not page.events:
            state.report(f"events after position {position} are missing, up to {head.position}")
            break
        if page.last - position != len(page.events):
            state.report(f"positions after {position} are not contiguous")
        chain = extend(chain, [event.content_hash for event in page.events])
        if chain != page.chain:
            state.report(f"the chain is broken between positions {position + 1} and {page.last}")
            chain = page.chain
        await _check_contents(page, keyring, secrets, state)
        state.checked += len(page.events)
        if position < head.position <= page.last:
            stored = await store.chain_at(head.position)
            if stored != head.chain:
                state.report(f"the head's chain is not that of position {head.position}")
        position = page.last
        yield state
    state.finished = True
    yield state


async def _check_contents(
    page: EventBatch, keyring: Keyring, secrets: Mapping[int, bytes], state: Verification
) -> None:
    records = [RecordedEvent.FromString(event.record) for event in page.events]
    keys: dict[int, set[bytes]] = {}
    for record in records:
        keys.setdefault(record.tenant, set()).update(identity_keys(record))
    ciphers = {
        tenant: {key: made.cipher for key, made in (await keyring.fetch(tenant, wanted)).items()}
        for tenant, wanted in keys.items()
    }
    for offset, (event, record) in enumerate(zip(page.events, records, strict=True)):
        position = page.first + offset
        secret = secrets.get(record.tenant)
        if secret is None:
            state.report(f"event {position} belongs to a tenant the settings do not name")
            continue
        if (event.type, event.partition) != (record.type, record.owner_key[0] & 63):
            state.report(f"event {position} has another type or partition than its record says")
        try:
            found = content_hash_of(secret, record, ciphers[record.tenant])
        except SealBroken:
            state.report(f"event {position} does not open: its record was changed")
            continue
        if found is None:
            state.sealed += 1
        elif found != event.content_hash:
            state.report(f"event {position} has another content than its hash says")
