"""Pages as AIP-158 has them: opaque tokens, and sizes that a service bounds."""

import base64
import binascii
import json
from hashlib import blake2b
from typing import Any, Final, TypeVar, overload

from libs.rpc import errors

DEFAULT_PAGE_SIZE: Final = 50
MAXIMUM_PAGE_SIZE: Final = 500

_DIGEST_BYTES = 12

Value = int | str | bytes
A = TypeVar("A", bound=Value)
B = TypeVar("B", bound=Value)
C = TypeVar("C", bound=Value)
D = TypeVar("D", bound=Value)


def page_size(
    asked: int, default: int = DEFAULT_PAGE_SIZE, maximum: int = MAXIMUM_PAGE_SIZE
) -> int:
    """Return how many entries a page may have: 0 is the default, and the maximum caps it.

    Raises:
        CallError: INVALID_REQUEST when `asked` is negative.
    """
    if asked < 0:
        raise errors.invalid_request([("page_size", "must be 0 (the default) or more")])
    return min(asked or default, maximum)


def encode(kind: str, filters: bytes, *values: Value) -> str:
    """Return a token that leads to the entries after `values`.

    Args:
        kind: Names the call, and the version of what its values mean, such as `timeline/1`.
        filters: What the next call must repeat, serialised deterministically, without the page
            size and the token.
        values: Where the page ended; nothing personal, since callers can read it.
    """
    tagged = [{"b": value.hex()} if isinstance(value, bytes) else value for value in values]
    payload = json.dumps(tagged, separators=(",", ":")).encode()
    return _armoured(_digest(kind, filters, payload) + payload)


@overload
def decode(token: str, kind: str, filters: bytes, a: type[A], /) -> tuple[A]: ...
@overload
def decode(token: str, kind: str, filters: bytes, a: type[A], b: type[B], /) -> tuple[A, B]: ...
@overload
def decode(
    token: str, kind: str, filters: bytes, a: type[A], b: type[B], c: type[C], /
) -> tuple[A, B, C]: ...
@overload
def decode(
    token: str, kind: str, filters: bytes, a: type[A], b: type[B], c: type[C], d: type[D], /
) -> tuple[A, B, C, D]: ...
def decode(token: str, kind: str, filters: bytes, /, *types: type[Any]) -> tuple[Any, ...]:
    """Return the values of a token, which must be of these types.

    The digest finds damage and other filters. It is no signature: a token says only where to go on
    within what its caller may read anyway.

    Raises:
        CallError: INVALID_PAGE_TOKEN.
    """
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
        # Base64 has several spellings of some bytes; only ours is a token of ours.
        if digest != _digest(kind, filters, payload) or token != _armoured(raw):
            raise errors.invalid_page_token()
        values = tuple(_value(tagged) for tagged in json.loads(payload))
    except (ValueError, TypeError, KeyError, binascii.Error) as error:
        raise errors.invalid_page_token() from error
    if tuple(type(value) for value in values) != types:
        raise errors.invalid_page_token()
    return values


def _armoured(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _digest(kind: str, filters: bytes, payload: bytes) -> bytes:
    # Lengths go first, so that no two different triples are the same bytes.
    name = kind.encode()
    lengths = b"%d,%d;" % (len(name), len(filters))
    return blake2b(lengths + name + filters + payload, digest_size=_DIGEST_BYTES).digest()


def _value(tagged: object) -> Value:
    if isinstance(tagged, dict):
        return bytes.fromhex(tagged["b"])
    if isinstance(tagged, int | str) and not isinstance(tagged, bool):
        return tagged
    raise TypeError
