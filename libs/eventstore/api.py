"""What the store says over NATS: subjects, and the errors that cross them."""

from typing import Final

from libs.eventstore.errors import (
    ErasureRefused,
    NothingToErase,
    QueueFull,
    StoreError,
    StoreFull,
    StoreUnavailable,
)

SERVICE: Final = "touchline-store"
VERSION: Final = "1.0.0"

APPEND: Final = "touchline.store.append"
HISTORY: Final = "touchline.store.history"
EVENTS_OF_KEYS: Final = "touchline.store.events-of-keys"
STREAM: Final = "touchline.store.stream"
CHANGES: Final = "touchline.store.changes"
DATA_KEYS: Final = "touchline.store.data-keys"
EVENT_KEYS: Final = "touchline.store.event-keys"
ERASE: Final = "touchline.store.erase"
HEAD: Final = "touchline.store.head"
_OF_EACH: Final = ".each"


def of_each(subject: str) -> str:
    """Return the subject on which every replica hears a request, where one hears it otherwise."""
    return f"{subject}{_OF_EACH}"


def asked(subject: str) -> str:
    """Return what a request asks for, whoever hears it."""
    return subject.removesuffix(_OF_EACH)


# The header in which the NATS service protocol (ADR-32) carries an error.
ERROR_CODE: Final = "Nats-Service-Error-Code"
ERROR_TEXT: Final = "Nats-Service-Error"

BAD_REQUEST: Final = "400"
UNAVAILABLE: Final = "503"
QUEUE_FULL: Final = "429"
STORE_FULL: Final = "507"
NOTHING_TO_ERASE: Final = "410"
ERASURE_REFUSED: Final = "422"
FAILED: Final = "500"

STREAM_ID_BYTES: Final = 16
EVENT_ID_BYTES: Final = 16
MAX_OWNER_KEYS: Final = 1000
MAX_DATA_KEYS: Final = 5000
MAX_EVENT_KEYS: Final = 5000
MAX_ERASED_KEYS: Final = 5000


def code_of(error: Exception) -> str:
    """Return the code under which an error crosses NATS."""
    match error:
        case QueueFull():
            return QUEUE_FULL
        case StoreFull():
            return STORE_FULL
        case StoreUnavailable():
            return UNAVAILABLE
        case NothingToErase():
            return NOTHING_TO_ERASE
        case ErasureRefused():
            return ERASURE_REFUSED
        case ValueError():
            return BAD_REQUEST
        case _:
            return FAILED


def error_of(code: str, text: str) -> StoreError:
    """Return the error that crossed NATS under a code."""
    if code == STORE_FULL:
        return StoreFull(text)
    if code in (UNAVAILABLE, QUEUE_FULL):
        return StoreUnavailable(text)
    if code == NOTHING_TO_ERASE:
        return NothingToErase(text)
    if code == ERASURE_REFUSED:
        return ErasureRefused(text)
    return StoreError(text)
