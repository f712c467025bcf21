"""Names identities by keyed hashes, so that nothing personal stands in the clear."""

import hmac
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from libs.identity.kinds import Strength, strength_of
from libs.identity.normalise import canonical
from touchline.events.v1.identity_pb2 import Identity

KEY_BYTES: Final = 16
NAMESPACE_KEY_BYTES: Final = 8
MIN_SECRET_BYTES: Final = 32
PARTITIONS: Final = 64
CACHED_IDENTITIES: Final = 100_000

# What a hash is for is hashed first, so that no key of one purpose equals one of another.
_KEY_PURPOSE: Final = b"identity\0"
_NAMESPACE_PURPOSE: Final = b"namespace\0"


class Identified(NamedTuple):
    """An identity, normalised and named.

    Attributes:
        kind: A number of `touchline.events.v1.IdentityKind`.
        key: The identity key, 16 bytes.
        namespace_key: The namespace's keyed hash, 8 bytes; empty when it has none.
        canonical_namespace: The namespace in its one spelling; empty when it has none.
        canonical_value: The identifier in its one spelling. Personal: seal it, never log it.
        sent: The identity as its caller spelled it, serialised. Personal as well.
    """

    kind: int
    key: bytes
    namespace_key: bytes
    canonical_namespace: str
    canonical_value: str
    sent: bytes

    def __repr__(self) -> str:
        return f"Identified(kind={self.kind}, key={self.key.hex()})"


def tenant_secret(identity_secret: bytes, tenant: str) -> bytes:
    """Derive one tenant's secret, so that no key says anything about another tenant's.

    Args:
        identity_secret: The installation's secret, at least 32 bytes.
        tenant: The tenant's name.

    Returns:
        HMAC-SHA256(identity_secret, "tenant" NUL name), 32 bytes.

    Raises:
        ValueError: The secret is too short or the name is empty.
    """
    _check_secret(identity_secret)
    if not tenant:
        raise ValueError("the tenant's name is empty: name the tenant whose secret to derive")
    return hmac.digest(identity_secret, b"tenant\0" + tenant.encode(), "sha256")


def secret_check(identity_secret: bytes) -> bytes:
    """Tell an installation's secret from another without telling the secret.

    Args:
        identity_secret: The installation's secret, at least 32 bytes.

    Returns:
        The first 16 bytes of HMAC-SHA256(identity_secret, "check" NUL).

    Raises:
        ValueError: The secret is too short.
    """
    _check_secret(identity_secret)
    return hmac.digest(identity_secret, b"check\0", "sha256")[:16]


def partition_of(key: bytes) -> int:
    """Return the partition, 0 to 63, of an identity key: its first byte & 63."""
    return key[0] & (PARTITIONS - 1)


def owner_first(identities: Sequence[Identified]) -> tuple[Identified, ...]:
    """Order an event's identities as its envelope keeps them: the owner, then the others.

    The owner is the strongest: external id, email, phone > social handle > device > cookie, ties by
    the caller's order. The others keep the caller's order. One named twice stays once.

    Args:
        identities: The event's identities in the caller's order, at least one.

    Returns:
        The distinct identities, the owner first.

    Raises:
        ValueError: There are none, or one is of a kind this release does not know.
    """
    if not identities:
        raise ValueError("an event without identities has no owner: reject it before this point")
    distinct = {identity.key: identity for identity in identities}
    owner = min(distinct.values(), key=_strength)
    del distinct[owner.key]
    return (owner, *distinct.values())


def owner_of(identities: Sequence[Identified]) -> Identified:
    """Return the identity that owns an event; see `owner_first`, which orders them all."""
    return owner_first(identities)[0]


class IdentityKeys:
    """Normalises and names one tenant's identities; remembers the latest ones.

    A remembered identity costs some 0.5 KB. Safe to share between threads.

    Args:
        secret: The tenant's secret from `tenant_secret`, at least 32 bytes.
        cached: How many identities to remember; 0 remembers none.

    Raises:
        ValueError: The secret is too short.
    """

    __slots__ = ("_cached", "_secret")

    def __init__(self, secret: bytes, *, cached: int = CACHED_IDENTITIES) -> None:
        _check_secret(secret)
        self._secret = secret
        self._cached = lru_cache(maxsize=cached)(self._identify)

    def identify(self, identity: Identity) -> Identified:
        """Normalise and name what a caller sent; its `canonical_value` is ignored.

        Args:
            identity: The caller's identity.

        Returns:
            The same identity, normalised and named.

        Raises:
            IdentityError: The identity can't be used; says which field is at fault.
        """
        return self._cached(identity.kind, identity.namespace, identity.value)

    def forget(self) -> None:
        """Forget the identities that are remembered, such as when somebody was erased."""
        self._cached.cache_clear()

    def key(self, kind: int, canonical_namespace: str, canonical_value: str) -> bytes:
        """Return the key of a canonical identity.

        Args:
            kind: A number of `touchline.events.v1.IdentityKind`.
            canonical_namespace: As `canonical` returned it.
            canonical_value: As `canonical` returned it.

        Returns:
            The first 16 bytes of HMAC-SHA256 under the tenant's secret.
        """
        namespace = canonical_namespace.encode()
        # The number and the length take four bytes each and the value ends the message, so no two
        # identities read alike.
        message = b"%b%b%b%b%b" % (
            _KEY_PURPOSE,
            kind.to_bytes(4, "big"),
            len(namespace).to_bytes(4, "big"),
            namespace,
            canonical_value.encode(),
        )
        return hmac.digest(self._secret, message, "sha256")[:KEY_BYTES]

    def namespace_key(self, canonical_namespace: str) -> bytes:
        """Return the short keyed hash that tells namespaces apart without naming them.

        Args:
            canonical_namespace: As `canonical` returned it.

        Returns:
            The first 8 bytes of HMAC-SHA256 under the tenant's secret; empty for no namespace.
        """
        if not canonical_namespace:
            return b""
        message = _NAMESPACE_PURPOSE + canonical_namespace.encode()
        return hmac.digest(self._secret, message, "sha256")[:NAMESPACE_KEY_BYTES]

    def _identify(self, kind: int, namespace: str, value: str) -> Identified:
        sent = Identity(kind=kind, namespace=namespace, value=value)  # type: ignore[arg-type]
        namespace, value = canonical(kind, namespace, value)
        return Identified(
            kind=kind,
            key=self.key(kind, namespace, value),
            namespace_key=self.namespace_key(namespace),
            canonical_namespace=namespace,
            canonical_value=value,
            sent=sent.SerializeToString(deterministic=True),
        )


def _check_secret(secret: bytes) -> None:
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(
            f"the identity secret has {len(secret)} bytes and needs {MIN_SECRET_BYTES}: "
            "make one with `openssl rand -hex 32`"
        )


def _strength(identity: Identified) -> Strength:
    return strength_of(identity.kind)
