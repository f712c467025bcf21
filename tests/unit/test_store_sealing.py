"""What seals, opens only with its key and beside its clear fields."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from libs.eventstore import api
from libs.eventstore.chain import GENESIS, content_hash, extend
from libs.eventstore.errors import (
    QueueFull,
    SealBroken,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from libs.eventstore.records import event_id_bytes, event_id_text
from libs.eventstore.sealing import MasterKey, seal, unseal

KEY, OTHER_KEY = bytes(range(32)), bytes(range(1, 33))
ANA, BO = b"identity-key-ana", b"identity-key--bo"


def test_a_seal_opens_with_its_key_beside_its_clear_fields() -> None:
    sealed = seal(AESGCM(KEY), b"secret", b"clear")
    assert unseal(AESGCM(KEY), sealed, b"clear") == b"secret"
    assert b"secret" not in sealed


def test_sealing_twice_gives_other_bytes() -> None:
    cipher = AESGCM(KEY)
    assert seal(cipher, b"secret", b"") != seal(cipher, b"secret", b"")


@pytest.mark.parametrize(
    ("key", "clear"), [(OTHER_KEY, b"clear"), (KEY, b"Clear"), (KEY, b""), (OTHER_KEY, b"")]
)
def test_a_seal_does_not_open_otherwise(key: bytes, clear: bytes) -> None:
    with pytest.raises(SealBroken):
        unseal(AESGCM(key), seal(AESGCM(KEY), b"secret", b"clear"), clear)


def test_a_seal_does_not_open_when_any_byte_changed_or_is_missing() -> None:
    cipher = AESGCM(KEY)
    sealed = seal(cipher, b"secret", b"clear")
    for index, byte in enumerate(sealed):
        with pytest.raises(SealBroken):
            unseal(cipher, sealed[:index] + bytes([byte ^ 0x80]) + sealed[index + 1 :], b"clear")
        with pytest.raises(SealBroken):
            unseal(cipher, sealed[:index], b"clear")


def test_a_data_key_unwraps_for_its_identity_and_tenant_only() -> None:
    wrapped = MasterKey(KEY).wrap(b"data key", 1, ANA)
    assert MasterKey(KEY).unwrap(wrapped, 1, ANA) == b"data key"
    for master, tenant, identity in ((OTHER_KEY, 1, ANA), (KEY, 2, ANA), (KEY, 1, BO)):
        with pytest.raises(SealBroken):
            MasterKey(master).unwrap(wrapped, tenant, identity)


def test_a_master_keys_check_tells_it_from_others_without_telling_it() -> None:
    assert MasterKey(KEY).check() == MasterKey(KEY).check()
    assert MasterKey(KEY).check() != MasterKey(OTHER_KEY).check()
    assert MasterKey(KEY).check() not in KEY
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        MasterKey(KEY[:31])


def test_keys_derived_for_two_purposes_do_not_open_each_others_seals() -> None:
    sealed = seal(MasterKey(KEY).derive(b"one"), b"secret", b"")
    assert unseal(MasterKey(KEY).derive(b"one"), sealed, b"") == b"secret"
    with pytest.raises(SealBroken):
        unseal(MasterKey(KEY).derive(b"two"), sealed, b"")


@given(st.binary(max_size=8), st.lists(st.binary(min_size=32, max_size=32), max_size=3))
def test_a_content_hash_depends_on_the_tenants_secret(content: bytes, parts: list[bytes]) -> None:
    assert content_hash(KEY, content, parts) == content_hash(KEY, content, parts)
    assert content_hash(KEY, content, parts) != content_hash(OTHER_KEY, content, parts)


@given(st.lists(st.lists(st.binary(min_size=32, max_size=32), max_size=3), max_size=4))
def test_a_chain_may_be_extended_in_any_portions(portions: list[list[bytes]]) -> None:
    chain = GENESIS
    for portion in portions:
        chain = extend(chain, portion)
    assert chain == extend(GENESIS, [one for portion in portions for one in portion])


@given(st.uuids())
def test_an_event_id_is_read_and_written_in_its_usual_form(value: object) -> None:
    assert event_id_text(event_id_bytes(str(value))) == str(value)
    assert event_id_bytes(str(value).upper()) == event_id_bytes(str(value))


@pytest.mark.parametrize(
    ("raised", "crossed"),
    [
        (StoreFull("the disk is full"), StoreFull),
        (StoreUnavailable("gone"), StoreUnavailable),
        (QueueFull(7), StoreUnavailable),  # worth asking again: what matters to the other side
        (ValueError("too many keys"), StoreError),
        (KeyError("a defect"), StoreError),
    ],
)
def test_an_error_is_on_the_other_side_of_nats_what_it_was(
    raised: Exception, crossed: type[StoreError]
) -> None:
    assert type(api.error_of(api.code_of(raised), str(raised))) is crossed
