"""From a caller's event to the record the store keeps, and back."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from libs.eventstore.chain import content_hash, part_digest
from libs.eventstore.envelope import authenticated, clear_in, clear_of
from libs.eventstore.sealing import DataKey, seal, unseal
from libs.identity.keys import Identified, partition_of
from touchline.events.v1.event_pb2 import Event
from touchline.events.v1.identity_pb2 import Identity
from touchline.store.v1.store_pb2 import RecordedEvent, SealedIdentity


class Row(NamedTuple):
    """One event as the append function takes it.

    Attributes:
        tenant: The tenant's number.
        event_id: The UUID, 16 bytes.
        owner_key: The owner's identity key, 16 bytes.
        partition: From the owner key, 0 to 63.
        type: The number of the fact's field.
        content_hash: 32 bytes.
        record: The serialised RecordedEvent.
        stream_id: The decision stream's UUID, 16 bytes, or None for a fact.
        stream_version: The version in that stream, from 0, or None.
    """

    tenant: int
    event_id: bytes
    owner_key: bytes
    partition: int
    type: int
    content_hash: bytes
    record: bytes
    stream_id: bytes | None = None
    stream_version: int | None = None


class Stream(NamedTuple):
    """A place in a decision stream: the stream's UUID, 16 bytes, and the version, from 0."""

    stream_id: bytes
    version: int


NO_STREAM: Final = Stream(b"", 0)


@dataclass(frozen=True, slots=True)
class SealedTenant:
    """What sealing needs to know of a tenant: its number and the secret that keys its hashes."""

    number: int
    secret: bytes = field(repr=False)


def event_id_bytes(text: str) -> bytes:
    """Returns a UUID's 16 bytes.

    Raises:
        ValueError: the text is no UUID in its usual form.
    """
    if len(text) != 36:
        raise ValueError("a UUID has 36 characters")
    return bytes.fromhex(text.replace("-", ""))


def event_id_text(value: bytes) -> str:
    """Returns the usual form of a UUID's 16 bytes."""
    text = value.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Keys(NamedTuple):
    """What opens some events of one tenant.

    Attributes:
        data_keys: By identity key.
        event_keys: By the event's 16 bytes: what was kept of single events when an erasure of a
            time range replaced the secret that their keys derived from.
    """

    data_keys: Mapping[bytes, DataKey]
    event_keys: Mapping[bytes, AESGCM] = MappingProxyType({})


class IdentitySeal(NamedTuple):
    """An identity as sealing an event of its needs it; made once per identity and spelling.

    Attributes:
        identity_key: Its keyed hash.
        key: Its data key.
        digest: Stands for it, as its caller spelled it, in an event's content hash.
        field: The SealedIdentity, as that field of a serialised RecordedEvent.
    """

    identity_key: bytes
    key: DataKey
    digest: bytes
    field: bytes


def seal_identity(identified: Identified, key: DataKey) -> IdentitySeal:
    """Return what an identity's events need, its value sealed under its own data key."""
    value = Identity.FromString(identified.sent)
    value.canonical_value = identified.canonical_value
    sealed = SealedIdentity(
        identity_key=identified.key,
        kind=value.kind,
        namespace_key=identified.namespace_key,
        sealed_value=seal(key.cipher, value.SerializeToString(), identified.key),
        key_id=key.key_id,
    )
    # A message with this field alone serialises to the field: concatenating messages merges them.
    field = RecordedEvent(identities=[sealed]).SerializeToString()
    return IdentitySeal(identified.key, key, part_digest(identified.sent), field)


def seal_event(
    tenant: SealedTenant,
    event: Event,
    identities: Sequence[IdentitySeal],
    traceparent: str = "",
    nonce: bytes | None = None,
    stream: Stream = NO_STREAM,
) -> Row:
    """Return the row of a valid event, whose identities and tenant it takes out of the message.

    Args:
        tenant: Whom it belongs to.
        event: The event. Changed: afterwards it holds what is sealed.
        identities: The event's, the owner first.
        traceparent: The W3C trace context of the call, or empty.
        nonce: One of `fresh_nonces`. Default: a fresh one.
        stream: The place in a decision stream. Default: it is a fact.
    """
    owner = identities[0]
    event.ClearField("identities")
    event.ClearField("tenant")
    plaintext = event.SerializeToString(deterministic=True)
    event_id = event_id_bytes(event.event_id)
    clear = clear_of(tenant.number, event_id, owner.identity_key, event, *stream)
    cipher = owner.key.event_cipher(event_id)
    record = RecordedEvent(
        event_id=clear.event_id,
        tenant=clear.tenant,
        owner_key=clear.owner_key,
        type=clear.type,
        channel=clear.channel,
        direction=clear.direction,
        visibility=clear.visibility,
        occurred_at_us=clear.occurred_at_us,
        historical=clear.historical,
        retracts=clear.retracts,
        traceparent=traceparent,
        sealed_event=seal(cipher, plaintext, authenticated(clear), nonce),
        stream_id=clear.stream_id,
        stream_version=clear.stream_version,
        identity_decision=clear.identity_decision,
        erasure=clear.erasure,
        event_secret_id=owner.key.event_secret_id,
    )
    return Row(
        clear.tenant,
        clear.event_id,
        clear.owner_key,
        partition_of(clear.owner_key),
        clear.type,
        content_hash(tenant.secret, plaintext, [identity.digest for identity in identities]),
        b"".join([record.SerializeToString(), *[identity.field for identity in identities]]),
        clear.stream_id or None,
        clear.stream_version if clear.stream_id else None,
    )


def open_event(record: RecordedEvent, keys: Keys, *, identities: bool = True) -> Event | None:
    """Returns the event as it was sent, with canonical identity values, owner first.

    Identities whose data key is gone keep their kind only. None when the event's own key is gone:
    its owner was erased, or a range of time in which it occurred.

    Args:
        record: The event.
        keys: From `StoreClient.keys_of` or, in the store's own process, `Keyring.keys_of`.
        identities: Whether to open them too, which takes a third of the time. Else it has none.

    Raises:
        SealBroken: a sealed value or a clear field was changed.
    """
    plaintext = _plaintext(record, keys)
    if plaintext is None:
        return None
    event = Event.FromString(plaintext)
    if identities:
        opened = [open_identity(sealed, keys.data_keys) for sealed in record.identities]
        event.identities.extend(opened)
    return event


def open_identity(sealed: SealedIdentity, data_keys: Mapping[bytes, DataKey]) -> Identity:
    """Returns an identity; only its kind when its data key is gone.

    Raises:
        SealBroken: the sealed value was changed.
    """
    cipher = _identity_cipher(sealed, data_keys)
    if cipher is None:
        return Identity(kind=sealed.kind)
    return Identity.FromString(unseal(cipher, sealed.sealed_value, sealed.identity_key))


def content_hash_of(tenant_secret: bytes, record: RecordedEvent, keys: Keys) -> bytes | None:
    """Returns the content hash that a stored record should have; None when a key is gone.

    Raises:
        SealBroken: a sealed value or a clear field was changed.
    """
    plaintext = _plaintext(record, keys)
    if plaintext is None or shut_identities(record, keys):
        return None
    sent = [_sent(open_identity(sealed, keys.data_keys)) for sealed in record.identities]
    return content_hash(tenant_secret, plaintext, [part_digest(one) for one in sent])


def is_shut(record: RecordedEvent, keys: Keys) -> bool:
    """Tells whether an event's own key is gone."""
    return _event_cipher(record, keys) is None


def shut_identities(record: RecordedEvent, keys: Keys) -> list[bytes]:
    """Returns the identities of an event that the key is gone of which sealed them."""
    return [
        sealed.identity_key
        for sealed in record.identities
        if _identity_cipher(sealed, keys.data_keys) is None
    ]


def same_event(one: Event | None, other: Event | None) -> bool:
    """Tells whether two opened events say the same, whatever the bytes they came in."""
    if one is None or other is None:
        return False
    for event in (one, other):
        event.ClearField("tenant")
        for identity in event.identities:
            identity.ClearField("canonical_value")
    return one == other


def needs_kept_key(record: RecordedEvent, data_keys: Mapping[bytes, DataKey]) -> bool:
    """Tells whether an event opens, if at all, with a key that was kept for it alone."""
    if not record.event_secret_id:
        return False
    owner = data_keys.get(record.owner_key)
    return owner is not None and owner.event_secret_id != record.event_secret_id


def outdated(record: RecordedEvent, data_keys: Mapping[bytes, DataKey]) -> list[bytes]:
    """Returns the identities of a record that other keys sealed than these: newer or erased ones.

    An identity without a key is not among them.
    """
    found = [
        sealed.identity_key
        for sealed in record.identities
        if (key := data_keys.get(sealed.identity_key)) and key.key_id != sealed.key_id
    ]
    if needs_kept_key(record, data_keys):
        found.append(record.owner_key)
    return found


def identity_keys(record: RecordedEvent) -> list[bytes]:
    """Returns the identity keys of a record, the owner's first."""
    return [sealed.identity_key for sealed in record.identities]


def identity_keys_of(records: Iterable[RecordedEvent]) -> set[bytes]:
    """Returns the identity keys of some records."""
    return {sealed.identity_key for record in records for sealed in record.identities}


def _plaintext(record: RecordedEvent, keys: Keys) -> bytes | None:
    cipher = _event_cipher(record, keys)
    if cipher is None:
        return None
    return unseal(cipher, record.sealed_event, authenticated(clear_in(record)))


def _event_cipher(record: RecordedEvent, keys: Keys) -> AESGCM | None:
    if not record.event_secret_id:
        return _identity_cipher(record.identities[0], keys.data_keys)
    owner = keys.data_keys.get(record.owner_key)
    if owner is not None and owner.event_secret_id == record.event_secret_id:
        return owner.event_cipher(record.event_id)
    return keys.event_keys.get(record.event_id)


def _identity_cipher(sealed: SealedIdentity, data_keys: Mapping[bytes, DataKey]) -> AESGCM | None:
    key = data_keys.get(sealed.identity_key)
    # Another key than the one that sealed it: the identity was erased, and came back later.
    return key.cipher if key is not None and key.key_id == sealed.key_id else None


def _sent(identity: Identity) -> bytes:
    identity.ClearField("canonical_value")
    return identity.SerializeToString(deterministic=True)
