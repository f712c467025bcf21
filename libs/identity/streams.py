"""Names the streams of aggregates: what decides, and whom no event concerns.

A stream's identity is the application that has the aggregate, and the aggregate's id there. Its key
is the stream's UUID, so nobody who sees a stream's id learns what the aggregate is called.
"""

from hashlib import blake2b
from typing import Final

from libs.identity.keys import KEY_BYTES
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_STREAM, Identity

_SNAPSHOTS: Final = b"snapshots"


def stream_identity(application: str, aggregate_id: str) -> Identity:
    """Return the one identity of an aggregate's events."""
    return Identity(kind=IDENTITY_KIND_STREAM, namespace=application, value=aggregate_id)


def changes_stream(owner_key: bytes) -> bytes:
    """Return the UUID, 16 bytes, of the stream that an aggregate's changes make."""
    return owner_key


def snapshots_stream(owner_key: bytes) -> bytes:
    """Return the UUID, 16 bytes, of the stream of an aggregate's snapshots.

    They have versions of their own accord, and the owner and so the data key of the changes: to
    erase an aggregate is to erase both.
    """
    return blake2b(owner_key, person=_SNAPSHOTS, digest_size=KEY_BYTES).digest()
