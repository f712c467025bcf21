"""Brings what callers write for one identifier to one canonical spelling.

Two identities are the same person's same identifier exactly when their canonical forms are equal,
so every function here is idempotent: a canonical form is its own canonical form.
"""

import re
import unicodedata
from typing import Final, NamedTuple

import email_validator
import phonenumbers

from libs.identity.kinds import NAMESPACED, is_known
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    IDENTITY_KIND_SOCIAL_HANDLE,
    IDENTITY_KIND_STREAM,
)

MAX_LENGTH: Final = 512
"""The longest value or namespace, in characters, before and after normalisation."""

# Control, surrogate, line and paragraph separators: never part of an identifier, and each a way to
# break a log line or a table. Format characters stay, since joiners are letters to some scripts.
_REFUSED_CATEGORIES: Final = frozenset({"Cc", "Cs", "Zl", "Zp"})

# The library takes some 40 µs an address. What this pattern matches, in a domain of at most 63
# characters, the library accepts unchanged but for case (a property test holds them together).
_PLAIN_EMAIL: Final = re.compile(
    r"[a-z0-9_+-]+(?:\.[a-z0-9_+-]+)*@(?:[a-z0-9]+(?:-[a-z0-9]+)*\.)+([a-z]{2,})"
)
_PLAIN_LOCAL_LENGTH: Final = 64
_PLAIN_DOMAIN_LENGTH: Final = 63
_SPECIAL_TOP_DOMAINS: Final = frozenset(
    name.rpartition(".")[2] for name in email_validator.SPECIAL_USE_DOMAIN_NAMES
)

_LEADING_AT: Final = re.compile(r"^[\s@]+")


class IdentityError(ValueError):
    """An identity that can't be used. Its text never repeats what the caller sent.

    Attributes:
        field: The field at fault: `kind`, `namespace` or `value`.
        description: What is wrong and what to do.
    """

    def __init__(self, field: str, description: str) -> None:
        super().__init__(f"{field}: {description}")
        self.field = field
        self.description = description


class Canonical(NamedTuple):
    """An identifier in its one spelling.

    Attributes:
        namespace: The system or network that gave it; empty for kinds that have none.
        value: The identifier.
    """

    namespace: str
    value: str


def canonical(kind: int, namespace: str, value: str) -> Canonical:
    """Return the one spelling of an identifier.

    Surrounding white space never counts. Then, by kind:

    - Email: checked by email-validator without asking DNS; example domains and `.test` are
      accepted. NFC, the domain in Unicode (IDNA, UTS #46), and **the whole address in lower case**:
      RFC 5321 lets a mail server tell `Anna@` from `anna@`, but none in use does, and here the
      question is who a person is, not where to deliver.
    - Phone: E.164 as of phonenumbers, from international form; possible by length, not
      necessarily in use.
    - Social handle: without leading `@`, NFKC and case-folded.
    - External id: NFC; case stays, since some systems tell `a1` from `A1`.
    - Device, cookie: as they are.
    - Stream: as it is, white space included: a program made it, and two that differ are two.

    Namespaces are NFKC and case-folded, a stream's apart, which is a program's as well.

    Args:
        kind: A number of `touchline.events.v1.IdentityKind`.
        namespace: Required for external ids and social handles, empty for every other kind.
        value: The identifier as the caller knows it, 1 to 512 characters.

    Returns:
        The canonical namespace and value.

    Raises:
        IdentityError: The identity can't be used; says which field is at fault.
    """
    if not is_known(kind):
        raise IdentityError(
            "kind",
            "is missing or unknown: set EXTERNAL_ID, EMAIL, PHONE, SOCIAL_HANDLE, DEVICE or COOKIE",
        )
    if kind == IDENTITY_KIND_STREAM:
        return Canonical(_verbatim("namespace", namespace), _verbatim("value", value))
    namespace = _canonical_namespace(kind, namespace)
    text = _clean("value", value)
    if kind == IDENTITY_KIND_EMAIL:
        text = _canonical_email(text)
    elif kind == IDENTITY_KIND_PHONE:
        text = _canonical_phone(text)
    elif kind == IDENTITY_KIND_SOCIAL_HANDLE:
        text = _canonical_handle(text)
    elif kind == IDENTITY_KIND_EXTERNAL_ID:
        text = unicodedata.normalize("NFC", text)
    return Canonical(namespace, _within_length("value", text))


def _canonical_namespace(kind: int, namespace: str) -> str:
    if kind not in NAMESPACED:
        if namespace.strip():
            raise IdentityError(
                "namespace", "must be empty for this kind of identity: leave it out"
            )
        return ""
    if not namespace.strip():
        raise IdentityError(
            "namespace",
            "is required for external ids and social handles: "
            "name the system or network that gave the identifier, such as `crm` or `mastodon`",
        )
    folded = _fold(_clean("namespace", namespace)).strip()
    return _within_length("namespace", folded)


def _canonical_email(text: str) -> str:
    lowered = text.lower()
    plain = _PLAIN_EMAIL.fullmatch(lowered) if lowered.isascii() else None
    if plain is not None and plain[1] not in _SPECIAL_TOP_DOMAINS:
        at = lowered.index("@")
        if at <= _PLAIN_LOCAL_LENGTH and len(lowered) - at - 1 <= _PLAIN_DOMAIN_LENGTH:
            return lowered
    try:
        checked = email_validator.validate_email(
            text, check_deliverability=False, test_environment=True
        )
    except email_validator.EmailNotValidError:
        # The library's text quotes the address, so neither it nor its traceback may go on.
        raise IdentityError(
            "value",
            "is not an email address that can receive mail: send one name, one @ and a public "
            "domain, without a display name, quotes or comments",
        ) from None
    return unicodedata.normalize("NFC", checked.normalized.lower())


def _canonical_phone(text: str) -> str:
    number = _parsed_phone(text)
    if number.extension:
        # E.164 would drop it and make one person of everybody behind a switchboard.
        raise IdentityError(
            "value",
            "has an extension, which names a different person than the number alone: "
            "send the direct number, or an external id",
        )
    if not phonenumbers.is_possible_number(number):
        raise IdentityError(
            "value",
            "has too few or too many digits for its country: send the complete number, "
            "area code included",
        )
    e164 = _e164(number)
    # Of two trunk prefixes the library takes away one at a time, so the result would be another
    # number when it is sent again.
    if e164 != text and _e164(_parsed_phone(e164)) != e164:
        raise IdentityError(
            "value",
            "can be read as two different numbers: write + and the country code, then the number "
            "without the zeros that are dialled only within the country",
        )
    return e164


def _parsed_phone(text: str) -> phonenumbers.PhoneNumber:
    try:
        return phonenumbers.parse(text, None)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE:
            description = (
                "has no country code, or one that does not exist: "
                "write the number in international form, + and the country code first"
            )
        else:
            description = (
                "is not a phone number: write + and the country code, then the digits of one number"
            )
        raise IdentityError("value", description) from None


def _e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def _canonical_handle(text: str) -> str:
    handle = _LEADING_AT.sub("", _fold(text)).rstrip()
    if not handle:
        raise IdentityError("value", "has nothing after the @: send the handle's name")
    return handle


def _fold(text: str) -> str:
    # Twice, from NFD: once is not idempotent for some Greek letters with iota subscript (Unicode
    # Standard, section 3.13, D147).
    folded = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", folded).casefold())


def _clean(field: str, text: str) -> str:
    _within_length(field, text)
    text = text.strip()
    if not text:
        raise IdentityError(field, "is empty: send the identifier, or leave the identity out")
    if not text.isprintable() and any(unicodedata.category(c) in _REFUSED_CATEGORIES for c in text):
        raise IdentityError(
            field, "has a control character or line break in it: send the identifier alone"
        )
    return text


def _verbatim(field: str, text: str) -> str:
    _clean(field, text)
    return text


def _within_length(field: str, text: str) -> str:
    if len(text) > MAX_LENGTH:
        raise IdentityError(
            field, f"is longer than {MAX_LENGTH} characters: send a shorter identifier"
        )
    return text
