"""The hash chain that makes the line tamper-evident, and says what continues what."""

from collections.abc import Iterable
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


def content_hash(tenant_secret: bytes, *parts: bytes) -> bytes:
    """Returns the keyed hash of an event's parts, 32 bytes.

    Keyed, so that nobody can guess at a content once its data key is gone. The parts' lengths go
    before them, so that no two lists of as many parts hash alike.
    """
    lengths = b"".join([len(part).to_bytes(4, "big") for part in parts])
    return blake2b(b"".join((lengths, *parts)), key=tenant_secret, digest_size=32).digest()


def extend(chain: bytes, content_hashes: Iterable[bytes]) -> bytes:
    """Returns the chain after some events: chain(n) = sha256(chain(n-1) || content_hash(n))."""
    for value in content_hashes:
        chain = sha256(chain + value).digest()
    return chain
