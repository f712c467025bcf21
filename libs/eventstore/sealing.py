"""Authenticated encryption of what is personal: AES-256-GCM, keys per identity and per event."""

import os
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.eventstore.errors import SealBroken

NONCE_BYTES: Final = 12
KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4


class DataKey(NamedTuple):
    """One identity's data key, and the secret from which its events' own keys derive.

    Attributes:
        secret: 32 bytes; seals the identity's value.
        key_id: Tells it from another key of the same identity, 4 bytes.
        event_secret: 32 bytes; an erasure of a time range replaces it. Empty for an identity that
            an older release made, whose events are sealed under the secret itself.
        event_secret_id: Tells it from another event secret of the same identity, 4 bytes or none.
        ready: What the secret makes, for who seals with it again and again. It takes some 2.5 KiB,
            more than everything else of a key, and to make it 2 µs.
    """

    secret: bytes
    key_id: bytes
    event_secret: bytes = b""
    event_secret_id: bytes = b""
    ready: AESGCM | None = None

    def __repr__(self) -> str:
        return f"DataKey({self.key_id.hex()})"  # the secret must not reach a log

    @property
    def cipher(self) -> AESGCM:
        """What the secret makes: it seals the identity's value."""
        return self.ready or AESGCM(self.secret)

    def event_key(self, event_id: bytes) -> bytes:
        """Return the key of an event that the identity owns, by the event's 16 bytes.

        It is BLAKE2b of the event id, keyed by the event secret, 32 bytes.
        """
        return blake2b(event_id, key=self.event_secret, digest_size=KEY_BYTES).digest()

    def event_cipher(self, event_id: bytes) -> AESGCM:
        """Return what seals an event that the identity owns, now."""
        return AESGCM(self.event_key(event_id)) if self.event_secret else self.cipher


def data_key(secret: bytes, event_secret: bytes = b"", *, ready: bool = False) -> DataKey:
    """Return the data key of a secret of 32 bytes and an event secret of as many or none.

    Args:
        secret: See DataKey.
        event_secret: See DataKey.
        ready: Whether to seal with it at once, and again.
    """
    key_id = blake2b(b"touchline data key", key=secret, digest_size=KEY_ID_BYTES).digest()
    event_secret_id = b""
    if event_secret:
        told = b"touchline event secret"
        event_secret_id = blake2b(told, key=event_secret, digest_size=KEY_ID_BYTES).digest()
    cipher = AESGCM(secret) if ready else None
    return DataKey(secret, key_id, event_secret, event_secret_id, cipher)


def fresh_nonces(count: int) -> list[bytes]:
    """Returns random nonces, drawn at once: the system call costs as much as sealing does.

    A random 96-bit nonce is safe for 2^32 messages under one key (NIST SP 800-38D, 8.3).
    """
    drawn = os.urandom(NONCE_BYTES * count)
    return [drawn[start : start + NONCE_BYTES] for start in range(0, len(drawn), NONCE_BYTES)]


def seal(key: AESGCM, plaintext: bytes, clear: bytes, nonce: bytes | None = None) -> bytes:
    """Returns nonce, ciphertext and tag; `clear` is authenticated with them but not contained.

    Args:
        key: The cipher of a data key.
        plaintext: What to seal.
        clear: What to bind it to; whoever opens it must know it.
        nonce: One of `fresh_nonces`, used once. Default: a fresh one.
    """
    nonce = nonce or os.urandom(NONCE_BYTES)
    return nonce + key.encrypt(nonce, plaintext, clear)


def unseal(key: AESGCM, sealed: bytes, clear: bytes) -> bytes:
    """Returns the plaintext.

    Raises:
        SealBroken: the key is another, or a byte of `sealed` or `clear` was changed.
    """
    try:
        return key.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], clear)
    except (InvalidTag, ValueError) as error:
        raise SealBroken("a sealed value does not open with its key") from error


@dataclass(frozen=True, slots=True)
class MasterKey:
    """The key that wraps the data keys, 32 bytes. Only ingestion has it."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES:
            raise ValueError(f"a master key has {KEY_BYTES} bytes, not {len(self.secret)}")

    def wrap(self, data_key: bytes, tenant: int, identity_key: bytes) -> bytes:
        """Returns the data key as the store keeps it, bound to its identity."""
        return seal(AESGCM(self.secret), data_key, _owner(tenant, identity_key))

    def unwrap(self, wrapped: bytes, tenant: int, identity_key: bytes) -> bytes:
        """Returns the data key.

        Raises:
            SealBroken: another master key wrapped it, or it belongs to another identity.
        """
        return unseal(AESGCM(self.secret), wrapped, _owner(tenant, identity_key))

    def check(self) -> bytes:
        """Returns a value that tells this key from another without telling the key."""
        return blake2b(b"touchline master key", key=self.secret, digest_size=16).digest()

    def derive(self, purpose: bytes) -> AESGCM:
        """Returns a key of its own for a purpose, such as keeping rejected events."""
        return AESGCM(blake2b(purpose, key=self.secret, digest_size=KEY_BYTES).digest())


def _owner(tenant: int, identity_key: bytes) -> bytes:
    return tenant.to_bytes(2, "big") + identity_key
