"""Ids that are computed: the same cause gives the same id, so that repeating records nothing twice.

UUIDs of version 8 (RFC 9562, section 5.8) whose first 48 bits are milliseconds, like version 7's,
so that index writes stay local; the rest is a hash. docs/adr/0004 says what each sort of id hashes.
"""

from functools import lru_cache
from hashlib import blake2b
from typing import Final

DIGEST_BYTES: Final = 16
"""Bytes of the digests below; an id takes 74 bits of one."""

_MAX_MILLIS = (1 << 48) - 1
_VARIANT = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
_IMPORT = b"touchline-import"
_DECISION = b"touchline-decide"


def uuid8(millis: int, digest: bytes) -> str:
    """Return the UUIDv8 of a time and a hash, in its 36-character form.

    Args:
        millis: Milliseconds since 1970. A time before 1970 counts as 1970: only order suffers.
        digest: At least 10 bytes of a hash; the first 74 bits but those of the variant are used.
    """
    rest = digest[:10].hex()
    return f"{_head(millis)}{rest[:3]}-{_VARIANT[rest[3]]}{rest[4:7]}-{rest[7:19]}"


def import_digest(source: str, kind: str, content: bytes) -> bytes:
    """Return the hash of an imported row.

    Args:
        source: The event's source, such as `cdnow`.
        kind: The fact's field in Event, such as `order_changed`: one export read by two mappings
            gives two events.
        content: The row as bytes, or its named id.
    """
    digest = blake2b(digest_size=DIGEST_BYTES, person=_IMPORT)
    digest.update(f"{len(source)}:{source}{len(kind)}:{kind}".encode())
    digest.update(content)
    return digest.digest()


def import_id(millis: int, digest: bytes, ordinal: int = 0) -> str:
    """Return the event_id of an imported row.

    Args:
        millis: The event's occurred_at in milliseconds since 1970.
        digest: The row's `import_digest`.
        ordinal: How many identical rows of the same file came before it; identical rows are
            legitimate, and each counts.
    """
    if ordinal:
        counted = digest + ordinal.to_bytes(8, "big")
        digest = blake2b(counted, digest_size=DIGEST_BYTES, person=_IMPORT).digest()
    return uuid8(millis, digest)


def decision_id(cause_recorded_at_us: int, *parts: bytes | str) -> str:
    """Return the event_id of a decision: deciding again gives the same one.

    Args:
        cause_recorded_at_us: When the store accepted the event it follows from, in microseconds
            since 1970: no clock of ours has a say.
        parts: What tells it from every other decision: the cause's event id, the kind, the target,
            the rule's name, the deadline. Never the rule's version: what was decided by an earlier
            one stands.
    """
    digest = blake2b(digest_size=DIGEST_BYTES, person=_DECISION)
    for part in parts:
        told = part.encode() if isinstance(part, str) else part
        # With its length, so that no two lists of parts read alike.
        digest.update(len(told).to_bytes(4, "big"))
        digest.update(told)
    return uuid8(cause_recorded_at_us // 1000, digest.digest())


@lru_cache(maxsize=4096)
def _head(millis: int) -> str:
    if millis > _MAX_MILLIS:
        raise ValueError(f"{millis} ms since 1970 is past what a UUID's 48 bits hold")
    digits = f"{max(millis, 0):012x}"
    return f"{digits[:8]}-{digits[8:]}-8"
