"""Normalisation: given what callers write, then one spelling or one clear refusal."""

import email_validator
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from libs.identity import Canonical, IdentityError, canonical
from touchline.events.v1.identity_pb2 import IdentityKind

EXTERNAL_ID = IdentityKind.IDENTITY_KIND_EXTERNAL_ID
EMAIL = IdentityKind.IDENTITY_KIND_EMAIL
PHONE = IdentityKind.IDENTITY_KIND_PHONE
HANDLE = IdentityKind.IDENTITY_KIND_SOCIAL_HANDLE
DEVICE = IdentityKind.IDENTITY_KIND_DEVICE
COOKIE = IdentityKind.IDENTITY_KIND_COOKIE
KINDS = [EXTERNAL_ID, EMAIL, PHONE, HANDLE, DEVICE, COOKIE]


def namespace_for(kind: int) -> str:
    return "crm" if kind in {EXTERNAL_ID, HANDLE} else ""


@pytest.mark.parametrize(
    ("kind", "written", "value"),
    [
        (EMAIL, "  Anna.Berg@Example.COM\n", "anna.berg@example.com"),
        (EMAIL, "x@shop.test", "x@shop.test"),
        (EMAIL, "Anna@BÜCHER.example", "anna@bücher.example"),
        (EMAIL, "anna@xn--bcher-kva.example", "anna@bücher.example"),
        (EMAIL, "JOSE\u0301@example.com", "jos\u00e9@example.com"),
        (EMAIL, "o'brien+news@mail.example.co.uk", "o'brien+news@mail.example.co.uk"),
        (PHONE, "+49 (0) 30 123456", "+4930123456"),
        (PHONE, "+1 (415) 555-2671", "+14155552671"),
        (PHONE, "tel:+49-30-123456", "+4930123456"),
        (PHONE, "+39 06 1234 5678", "+390612345678"),
        (HANDLE, "@Anna_B", "anna_b"),
        (HANDLE, "@Anna@Mastodon.Example", "anna@mastodon.example"),
        (HANDLE, "＠Ａｎｎａ", "anna"),  # noqa: RUF001 (full-width letters are the case)
        (EXTERNAL_ID, " Kd-0042 ", "Kd-0042"),
        (EXTERNAL_ID, "Mu\u0308ller", "M\u00fcller"),
        (DEVICE, " A1b2 ", "A1b2"),
        (COOKIE, "_ga.1.2\t", "_ga.1.2"),
    ],
)
def test_given_any_usual_spelling_then_it_is_the_one_spelling(
    kind: int, written: str, value: str
) -> None:
    assert canonical(kind, namespace_for(kind), written).value == value


def test_given_a_namespace_in_any_case_then_it_is_one_namespace() -> None:
    assert canonical(HANDLE, " Mastodon ", "@anna") == Canonical("mastodon", "anna")


def test_given_an_external_id_then_its_case_stays() -> None:
    assert canonical(EXTERNAL_ID, "crm", "a1") != canonical(EXTERNAL_ID, "crm", "A1")


@pytest.mark.parametrize(
    ("kind", "namespace", "value", "field", "advice"),
    [
        (0, "", "ref-secret", "kind", "missing or unknown"),
        (99, "", "ref-secret", "kind", "missing or unknown"),
        (EXTERNAL_ID, "", "ref-secret", "namespace", "name the system"),
        (HANDLE, "  ", "@ref-secret", "namespace", "name the system"),
        (EMAIL, "crm", "ref-secret@example.com", "namespace", "leave it out"),
        (HANDLE, "net\x00secret", "ref", "namespace", "control character"),
        (EXTERNAL_ID, "n" * 513, "ref-secret", "namespace", "longer than 512"),
        (EMAIL, "", "ref-secret", "value", "not an email address"),
        (EMAIL, "", "ref-secret@", "value", "not an email address"),
        (EMAIL, "", "Ref <ref-secret@example.com>", "value", "display name"),
        (EMAIL, "", "ref-secret@printer.local", "value", "public domain"),
        (EMAIL, "", "ref-secret@localhost", "value", "public domain"),
        (PHONE, "", "030 987654321", "value", "no country code"),
        (PHONE, "", "0049 30 987654321", "value", "no country code"),
        (PHONE, "", "+999 987654321", "value", "no country code"),
        (PHONE, "", "ref-secret", "value", "not a phone number"),
        (PHONE, "", "+49 30 987654321 ext. 5", "value", "extension"),
        (PHONE, "", "+1 98765", "value", "too few or too many digits"),
        (PHONE, "", "+1 415 98765432109", "value", "too few or too many digits"),
        (PHONE, "", "+380 00 398769876", "value", "two different numbers"),
        (HANDLE, "x", "@@", "value", "nothing after the @"),
        (DEVICE, "", "", "value", "is empty"),
        (DEVICE, "", " \n ", "value", "is empty"),
        (DEVICE, "", "ref\nsecret", "value", "line break"),
        (DEVICE, "", "ref\x00secret", "value", "control character"),
        (DEVICE, "", "ref\u2028secret", "value", "line break"),
        (EXTERNAL_ID, "crm", "ref\ud800secret", "value", "control character"),
        (DEVICE, "", "s" * 513, "value", "longer than 512"),
        # One character that NFKC spells with eighteen.
        (HANDLE, "x", "\ufdfa" * 512, "value", "longer than 512"),
    ],
)
def test_given_an_identity_that_cannot_be_used_then_the_refusal_says_which_field_and_what_to_do(
    kind: int, namespace: str, value: str, field: str, advice: str
) -> None:
    with pytest.raises(IdentityError) as refusal:
        canonical(kind, namespace, value)

    assert refusal.value.field == field
    assert advice in refusal.value.description
    for told in ("secret", "9876", "sss"):
        assert told not in str(refusal.value)
    assert refusal.value.__cause__ is None
    assert refusal.value.__suppress_context__ or refusal.value.__context__ is None


def test_given_512_characters_then_they_are_taken() -> None:
    assert len(canonical(DEVICE, "", "d" * 512).value) == 512


written = st.one_of(
    st.text(max_size=40),
    st.text("+0123456789 ()-/.", max_size=24).map(lambda digits: "+" + digits),
    st.text("aA0@.-_+ßİΣKé\u0301ᾳ\u0345 ", max_size=24),
    st.emails(),
)


@given(st.sampled_from(KINDS), written)
@example(PHONE, "+380 00 316030902")
@example(HANDLE, "\u03b1\u0345\u0301")
@example(HANDLE, "@ @a")
@example(HANDLE, "\u00a8a")
@example(EMAIL, "\u0130@example.com")
def test_given_a_canonical_identity_then_it_is_its_own_canonical_form(
    kind: int, value: str
) -> None:
    namespace = value if kind in {EXTERNAL_ID, HANDLE} else ""
    try:
        once = canonical(kind, namespace, value)
    except IdentityError:
        assume(False)
    assert canonical(kind, once.namespace, once.value) == once


@given(
    st.sampled_from(KINDS), st.text("QXZ#~\x00\n\ud800 ", min_size=4, max_size=600), st.booleans()
)
def test_given_any_refusal_then_it_never_repeats_what_was_sent(
    kind: int, value: str, as_namespace: bool
) -> None:
    assume(len(value.strip()) >= 3)
    try:
        if as_namespace:
            canonical(kind, value, value)
        else:
            canonical(kind, namespace_for(kind), value)
    except IdentityError as refusal:
        assert value.strip() not in str(refusal)  # noqa: PT017 (most values are fine)
        assert value.strip() not in refusal.description  # noqa: PT017


@given(
    st.from_regex(
        r"[A-Za-z0-9_.+-]{1,70}@([A-Za-z0-9-]{1,66}\.){0,3}"
        r"(com|test|example|local|invalid|arpa|onion|localhost|c0m|x|[A-Za-z0-9-]{1,66})",
        fullmatch=True,
    )
)
@example("a@example.test")
@example("a@home.arpa")
@example("a@" + "d" * 59 + ".com")
@example("a@" + "d" * 64 + ".com")
@example("a" * 64 + "@example.com")
@example("a" * 65 + "@example.com")
def test_given_a_plain_ascii_address_then_the_short_cut_says_what_the_library_says(
    address: str,
) -> None:
    try:
        checked = email_validator.validate_email(
            address, check_deliverability=False, test_environment=True
        )
    except email_validator.EmailNotValidError:
        with pytest.raises(IdentityError):
            canonical(EMAIL, "", address)
    else:
        assert canonical(EMAIL, "", address).value == checked.normalized.lower()
