"""Erases customers: checks what is asked, has the store delete keys, and says what it did."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from libs.eventstore.api import MAX_ERASED_KEYS
from libs.eventstore.client import StoreClient
from libs.eventstore.errors import (
    ErasureRefused,
    NothingToErase,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from libs.identity.keys import KEY_BYTES
from libs.projection import consents, timeline
from libs.projection.config import Reader
from libs.projection.opening import open_records
from libs.projection.profiles import erased_among, views_errors
from libs.projection.projection import decode
from libs.rpc import errors
from services.profile import attributes
from touchline.events.v1.decisions_pb2 import Erasure
from touchline.ids import decision_id
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.profile.v1.erasure_pb2 import Erased, TimeRange
from touchline.store.v1.store_pb2 import EraseRequest, EraseResponse
from touchline.times import micros_of, timestamp_of

CHECKS: Final = {**timeline.CHECKS, **consents.CHECKS, **attributes.CHECKS}
"""What this service looks at for what is left of the erased; docs/erasure.md has the inventory."""

_MAX_KEYS: Final = 50_000
_MAX_REASON: Final = 256
_REASON: Final = re.compile(r"[^@\x00-\x1f\x7f]{1,256}")
_REFERENCE: Final = re.compile(r"[^\s@\x00-\x1f\x7f]{1,128}")
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_KEY: Final = re.compile(rf"[0-9a-fA-F]{{{2 * KEY_BYTES}}}")
_LAST_SECOND: Final = 253_402_300_799  # of the year 9999

Violations = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be erased.

    Attributes:
        erasure_id: Names the erasure, a UUID.
        reason: Why, as a reference.
        requested_by: Who asks, as a reference.
        from_us: Only what occurred then or later, in microseconds since 1970 UTC.
        before_us: Only what occurred before then; 0 and 0: everything, and the identities.
        keys: The identities; none yet when a profile is named.
    """

    erasure_id: str
    reason: str
    requested_by: str
    from_us: int
    before_us: int
    keys: tuple[bytes, ...] = ()

    def parts(self) -> Iterator["Wish"]:
        """Yield it in parts that the store takes, each with a name of its own, as a retry does."""
        keys = tuple(sorted(self.keys))
        for start in range(0, len(keys), MAX_ERASED_KEYS):
            name = self.erasure_id
            if start:
                name = decision_id(0, "erasure", self.erasure_id, str(start))
            yield replace(self, erasure_id=name, keys=keys[start : start + MAX_ERASED_KEYS])


def wish_of(request: api.EraseProfileRequest) -> Wish:
    """Return what a request asks.

    Raises:
        CallError: INVALID_REQUEST, with all that is wrong.
    """
    wrong: Violations = []
    if not _REASON.fullmatch(request.reason):
        told = f"must be 1 to {_MAX_REASON} characters without @: a reference, since it is kept"
        wrong.append(("reason", told))
    if not _REFERENCE.fullmatch(request.requested_by):
        told = "must be 1 to 128 characters without blanks and @: a reference, no address"
        wrong.append(("requested_by", told))
    if request.erasure_id and not _UUID.fullmatch(request.erasure_id):
        wrong.append(("erasure_id", "is not a UUID"))
    keys = _keys_in(request, wrong)
    from_us, before_us = _range_in(request, wrong)
    if wrong:
        raise errors.invalid_request(wrong)
    erasure_id = str(UUID(request.erasure_id) if request.erasure_id else uuid4())
    return Wish(erasure_id, request.reason, request.requested_by, from_us, before_us, keys)


async def erase(
    pool: asyncpg.Pool, store: StoreClient, reader: Reader, wish: Wish, profile_id: str
) -> Erased:
    """Erase identities, and return what was done; asked again, as the first time.

    Args:
        pool: Connections to the database of the identity graph.
        store: Erases.
        reader: Whose identities they are.
        wish: What is to be erased.
        profile_id: Of the profile, for the answer.

    Raises:
        CallError: nothing was erased, PROFILE_ERASED if that was done before; or, with
            STORE_UNAVAILABLE, it is not known whether anything was.
    """
    answers = []
    try:
        for part in wish.parts():
            try:
                answers.append(await store.erase(_request(reader, part)))
            except NothingToErase:
                continue  # other parts may have been erased apart
        if not answers:
            await _refuse(pool, reader, wish)
        return await _told(store, wish, profile_id, answers)
    except ErasureRefused as error:
        raise errors.invalid_request([("occurred", str(error))]) from error
    except StoreFull as error:
        raise errors.store_full() from error
    except StoreUnavailable as error:
        raise errors.store_unavailable() from error
    except StoreError as error:  # all else of the request was checked
        raise errors.invalid_request([("erasure_id", str(error))]) from error


def _request(reader: Reader, wish: Wish) -> EraseRequest:
    return EraseRequest(
        tenant=reader.name,
        erasure_id=wish.erasure_id,
        erasure=Erasure(
            identity_keys=wish.keys,
            occurred_from_us=wish.from_us,
            occurred_before_us=wish.before_us,
        ),
        reason=wish.reason,
        requested_by=wish.requested_by,
    )


async def _refuse(pool: asyncpg.Pool, reader: Reader, wish: Wish) -> None:
    """Say why there is nothing to erase."""
    async with views_errors():
        erased = await erased_among(pool, reader.tenant, wish.keys)
    if erased:
        raise errors.profile_erased(max(one.position for one in erased))
    raise errors.profile_not_found()


async def _told(
    store: StoreClient, wish: Wish, profile_id: str, answers: Sequence[EraseResponse]
) -> Erased:
    """Return what was done, as the line says it: it may have been asked, and done, before."""
    last = answers[-1]
    erased = Erased(
        erasure_id=wish.erasure_id,
        profile_id=profile_id,
        position=last.position,
        erased_at=timestamp_of(last.recorded_at_us),
        deleted_keys=sum(one.deleted_keys for one in answers),
        erased_events=sum(one.erased_events for one in answers),
        kept_events=sum(one.kept_events for one in answers),
        discarded_rejected_events=sum(one.discarded_rejected_events for one in answers),
    )
    for answer in answers:
        page = (await store.history(answer.position - 1)).batch
        (event,) = decode(answer.position, page.events[:1])
        said = event.record.erasure
        erased.identity_keys.extend(key.hex() for key in said.identity_keys)
        erased.ClearField("occurred")
        if said.occurred_from_us or said.occurred_before_us:
            erased.occurred.CopyFrom(_range(said))
        (opened,) = await open_records(store, [event.record])
        if opened is not None:
            erased.reason = opened.profile_erased.reason
            erased.requested_by = opened.actor.reference
    return erased


def _range(said: Erasure) -> TimeRange:
    told = TimeRange()
    if said.occurred_from_us:
        getattr(told, "from").CopyFrom(timestamp_of(said.occurred_from_us))
    if said.occurred_before_us:
        told.before.CopyFrom(timestamp_of(said.occurred_before_us))
    return told


def _keys_in(request: api.EraseProfileRequest, wrong: Violations) -> tuple[bytes, ...]:
    given = request.identity_keys
    if given and request.HasField("profile"):
        wrong.append(("identity_keys", "must be empty when a profile is named"))
    if len(given) > _MAX_KEYS:
        wrong.append(("identity_keys", f"must be at most {_MAX_KEYS:,}"))
        return ()
    keys = []
    for place, text in enumerate(given):
        if _KEY.fullmatch(text):
            keys.append(bytes.fromhex(text))
        else:
            told = f"is no identity key: it has {2 * KEY_BYTES} hexadecimal digits"
            wrong.append((f"identity_keys[{place}]", told))
    return tuple(dict.fromkeys(keys))


def _range_in(request: api.EraseProfileRequest, wrong: Violations) -> tuple[int, int]:
    if not request.HasField("occurred"):
        return 0, 0
    before, bounds = len(wrong), dict[str, int]()
    for name in ("from", "before"):
        bounds[name] = 0
        if request.occurred.HasField(name):
            at = getattr(request.occurred, name)
            if not 0 <= at.seconds <= _LAST_SECOND or micros_of(at) < 1:
                wrong.append((f"occurred.{name}", "must be after 1970 and before 10000"))
            bounds[name] = micros_of(at)
    if len(wrong) == before:
        if not any(bounds.values()):
            told = "is empty; give from, before or both, or leave it out to erase everything"
            wrong.append(("occurred", told))
        elif bounds["before"] and bounds["from"] >= bounds["before"]:
            wrong.append(("occurred.before", "must be later than occurred.from"))
    return bounds["from"], bounds["before"]
