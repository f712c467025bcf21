"""Keys: given identities, then names that tell nothing and an owner everybody agrees on."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.identity import (
    Identified,
    IdentityError,
    IdentityKeys,
    owner_first,
    owner_of,
    partition_of,
    tenant_secret,
)
from touchline.events.v1.identity_pb2 import Identity, IdentityKind

EXTERNAL_ID = IdentityKind.IDENTITY_KIND_EXTERNAL_ID
EMAIL = IdentityKind.IDENTITY_KIND_EMAIL
PHONE = IdentityKind.IDENTITY_KIND_PHONE
HANDLE = IdentityKind.IDENTITY_KIND_SOCIAL_HANDLE
DEVICE = IdentityKind.IDENTITY_KIND_DEVICE
COOKIE = IdentityKind.IDENTITY_KIND_COOKIE

SECRET = bytes(range(32))


@pytest.fixture
def keys() -> IdentityKeys:
    return IdentityKeys(tenant_secret(SECRET, "default"))


def named(name: str, kind: int) -> Identified:
    return Identified(kind, name.encode().ljust(16), b"", "", name, b"")


def test_given_two_spellings_of_one_email_then_they_have_one_key(keys: IdentityKeys) -> None:
    one = keys.identify(Identity(kind=EMAIL, value="Anna@Example.com "))
    other = keys.identify(Identity(kind=EMAIL, value="anna@example.com"))

    assert one.key == other.key
    assert one.canonical_value == "anna@example.com"
    assert len(one.key) == 16
    assert one.namespace_key == b""


def test_given_a_callers_canonical_value_then_it_is_ignored(keys: IdentityKeys) -> None:
    lie = Identity(kind=EMAIL, value="anna@example.com", canonical_value="ben@example.com")

    assert keys.identify(lie) == keys.identify(Identity(kind=EMAIL, value="anna@example.com"))


def test_given_a_key_then_it_is_hmac_sha256_of_the_documented_bytes() -> None:
    secret = hmac.new(SECRET, b"tenant\0acme", hashlib.sha256).digest()
    message = b"identity\0" + bytes([0, 0, 0, 1]) + bytes([0, 0, 0, 3]) + b"crm" + b"42"

    assert tenant_secret(SECRET, "acme") == secret
    expected = hmac.new(secret, message, hashlib.sha256).digest()[:16]
    assert IdentityKeys(secret).key(EXTERNAL_ID, "crm", "42") == expected


def test_given_another_tenant_kind_namespace_or_value_then_the_key_is_another(
    keys: IdentityKeys,
) -> None:
    others = IdentityKeys(tenant_secret(SECRET, "acme"))

    distinct = {
        keys.key(EXTERNAL_ID, "crm", "42"),
        others.key(EXTERNAL_ID, "crm", "42"),
        keys.key(HANDLE, "crm", "42"),
        keys.key(EXTERNAL_ID, "erp", "42"),
        keys.key(EXTERNAL_ID, "crm", "43"),
        keys.key(EXTERNAL_ID, "cr", "m42"),
        keys.key(EXTERNAL_ID, "", "crm42"),
    }
    assert len(distinct) == 7


field = st.tuples(st.integers(1, 6), st.text(max_size=5), st.text(max_size=5))


@given(field, field)
def test_given_two_identities_then_their_keys_are_equal_only_if_they_are(
    one: tuple[int, str, str], other: tuple[int, str, str]
) -> None:
    keys = IdentityKeys(SECRET, cached=0)

    assert (keys.key(*one) == keys.key(*other)) == (one == other)


def test_given_namespaces_then_their_short_keys_tell_them_apart_within_a_tenant_only(
    keys: IdentityKeys,
) -> None:
    others = IdentityKeys(tenant_secret(SECRET, "acme"))

    crm = keys.identify(Identity(kind=EXTERNAL_ID, namespace="CRM", value="1")).namespace_key
    assert len(crm) == 8
    assert crm == keys.namespace_key("crm")
    assert len({crm, keys.namespace_key("erp"), others.namespace_key("crm"), b""}) == 4


def test_given_an_identity_that_cannot_be_used_then_it_is_refused_every_time(
    keys: IdentityKeys,
) -> None:
    for _ in range(2):
        with pytest.raises(IdentityError, match="country code"):
            keys.identify(Identity(kind=PHONE, value="030 123456"))


def test_given_more_identities_than_are_remembered_then_their_names_stay_the_same() -> None:
    forgetful, mindful = IdentityKeys(SECRET, cached=2), IdentityKeys(SECRET)
    identities = [Identity(kind=DEVICE, value=f"d{i % 5}") for i in range(20)]

    assert [forgetful.identify(i) for i in identities] == [mindful.identify(i) for i in identities]


def test_given_an_identity_in_a_log_line_then_nothing_personal_is_read(keys: IdentityKeys) -> None:
    shown = repr(keys.identify(Identity(kind=HANDLE, namespace="mastodon", value="@anna")))

    assert "anna" not in shown
    assert "mastodon" not in shown


@pytest.mark.parametrize(
    ("kinds", "owner"),
    [
        ([COOKIE, DEVICE, HANDLE, EMAIL], 3),
        ([COOKIE, DEVICE, HANDLE], 2),
        ([COOKIE, DEVICE], 1),
        ([PHONE, EXTERNAL_ID, EMAIL], 0),
        ([DEVICE, EMAIL, EXTERNAL_ID, PHONE], 1),
        ([COOKIE], 0),
    ],
)
def test_given_an_events_identities_then_the_strongest_owns_it_and_ties_go_by_their_order(
    kinds: list[int], owner: int
) -> None:
    identities = [named(f"i{i}", kind) for i, kind in enumerate(kinds)]

    rest = [identity for identity in identities if identity is not identities[owner]]
    assert owner_of(identities) == identities[owner]
    assert owner_first(identities) == (identities[owner], *rest)


def test_given_one_identity_twice_then_it_stays_once() -> None:
    device, email = named("d", DEVICE), named("e", EMAIL)

    assert owner_first([device, email, device, email]) == (email, device)


def test_given_no_identities_then_there_is_no_owner() -> None:
    with pytest.raises(ValueError, match="has no owner"):
        owner_of([])


def test_given_a_key_then_its_partition_is_its_first_byte_modulo_64() -> None:
    assert [partition_of(bytes([first]) + bytes(15)) for first in (0, 63, 64, 255)] == [
        0,
        63,
        0,
        63,
    ]


def test_given_a_short_secret_or_no_tenant_then_it_says_what_is_needed() -> None:
    with pytest.raises(ValueError, match="needs 32"):
        IdentityKeys(b"short")
    with pytest.raises(ValueError, match="needs 32"):
        tenant_secret(b"short", "default")
    with pytest.raises(ValueError, match="name the tenant"):
        tenant_secret(SECRET, "")
