"""Customers as people type them."""

import re
from typing import Final

import typer

from libs.identity import IdentityError, canonical
from touchline.events.v1.identity_pb2 import (
    IDENTITY_KIND_COOKIE,
    IDENTITY_KIND_DEVICE,
    IDENTITY_KIND_EMAIL,
    IDENTITY_KIND_EXTERNAL_ID,
    IDENTITY_KIND_PHONE,
    IDENTITY_KIND_SOCIAL_HANDLE,
    Identity,
)
from touchline.profile.v1.profile_pb2 import ProfileReference

FORMS: Final = (
    "Give ann@example.com, +493012345678, @handle@network, SYSTEM:ID (such as crm:4711), "
    "device:ID, cookie:ID, or a profile's 32 hexadecimal digits."
)
_PROFILE_ID: Final = re.compile("[0-9a-f]{32}")
_KINDS: Final = {"device": IDENTITY_KIND_DEVICE, "cookie": IDENTITY_KIND_COOKIE}


def reference_of(text: str) -> ProfileReference:
    """Return the customer that a person means.

    Raises:
        typer.BadParameter: It has none of the forms, or is no identity that anybody can have.
    """
    text = text.strip()
    if _PROFILE_ID.fullmatch(text):
        return ProfileReference(profile_id=text)
    return ProfileReference(identity=identity_of(text))


def identity_of(text: str) -> Identity:
    """Return the identity that a person means.

    Raises:
        typer.BadParameter: It has none of the forms, or is no identity that anybody can have.
    """
    identity = _identity(text.strip())
    try:
        canonical(identity.kind, identity.namespace, identity.value)
    except IdentityError as error:
        raise typer.BadParameter(f"it {error.description}. {FORMS}") from None
    return identity


def _identity(text: str) -> Identity:
    if text.startswith("+"):
        return Identity(kind=IDENTITY_KIND_PHONE, value=text)
    if text.startswith("@") and "@" in text[1:]:
        handle, _, network = text[1:].partition("@")
        return Identity(kind=IDENTITY_KIND_SOCIAL_HANDLE, namespace=network, value=handle)
    namespace, colon, value = text.partition(":")
    if not colon and "@" in text:
        return Identity(kind=IDENTITY_KIND_EMAIL, value=text)
    if not (namespace and value):
        raise typer.BadParameter(FORMS)
    if kind := _KINDS.get(namespace):
        return Identity(kind=kind, value=value)
    return Identity(kind=IDENTITY_KIND_EXTERNAL_ID, namespace=namespace, value=value)
