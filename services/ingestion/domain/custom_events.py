"""The rules of custom events and of their types, apart from what a type's schema says."""

import re
from typing import Final

from services.ingestion.domain.json_texts import is_too_large, too_large
from services.ingestion.domain.rules import Violation, Violations
from touchline.events.v1.facts_pb2 import CustomEvent
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType

MAX_NAME: Final = 128
MAX_DESCRIPTION: Final = 1000
_is_name: Final = re.compile(f"[a-zA-Z0-9._-]{{1,{MAX_NAME}}}").fullmatch
_NO_NAME: Final = (
    f"is not 1 to {MAX_NAME} letters a to z, digits, dots, underscores and hyphens, such as "
    "webinar.attended"
)


def custom(fact: CustomEvent, found: Violations) -> None:
    """Check what can be checked without the event's type."""
    if not _is_name(fact.name):
        found.append(("custom_event.name", _NO_NAME))
    if is_too_large(fact.properties_json):
        found.append(("custom_event.properties_json", too_large()))


def type_violations(event_type: CustomEventType, path: str) -> list[Violation]:
    """Return what is wrong with a type that is to be registered, apart from its schema.

    Args:
        event_type: The type as its caller defines it.
        path: The type's field in the request, with a dot behind.
    """
    found: list[Violation] = []
    if not _is_name(event_type.name):
        found.append((f"{path}name", _NO_NAME))
    length = len(event_type.description)
    if length > MAX_DESCRIPTION:
        told = f"has {length:,} characters; at most {MAX_DESCRIPTION:,} are allowed, so shorten it"
        found.append((f"{path}description", told))
    return found
