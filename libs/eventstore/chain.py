"""The hash chain that makes the line tamper-evident, and says what continues what."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from typing import Final

GENESIS: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Head:
    """A place on the line: the store, the position and the chain there."""

    store_id: bytes
    position: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A store that this one was restored from, and the place where its backup ended.

    Up to there, the events of both are the same.
    """

    store_id: bytes
    position: int
    chain: bytes


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a store stands, and which stores it was restored from, the oldest first."""

    head: Head
    ancestors: tuple[Ancestor, ...] = ()

    def ancestor(self, store_id: bytes) -> Ancestor | None:
        """Return the ancestor of this id, or None: it is this store itself, or a stranger."""
        return next((one for one in self.ancestors if one.store_id == store_id), None)


def content_hash(tenant_secret: bytes, content: bytes, parts: Sequence[bytes] = ()) -> bytes:
    """Return the keyed hash of what a caller sent, 32 bytes.

    Keyed, so that nobody can guess at a content once its data key is gone.

    Args:
        tenant_secret: The key, at most 64 bytes.
        content: The event without its identities.
        parts: The `part_digest` of each identity. Their number goes first and each has one size,
            so that no two events are the same bytes.
    """
    counted = b"".join((len(parts).to_bytes(2, "big"), *parts, content))
    return blake2b(counted, key=tenant_secret, digest_size=32).digest()


def part_digest(part: bytes) -> bytes:
    """Return what stands for a part in the content hash, 32 bytes."""
    return blake2b(part, digest_size=32).digest()


def extend(chain: bytes, content_hashes: Iterable[bytes]) -> bytes:
    """Returns the chain after some events: chain(n) = sha256(chain(n-1) || content_hash(n))."""
    for value in content_hashes:
        chain = sha256(chain + value).digest()
    return chain
