"""What the calls of the ingestion service share: its parts, the caller's tenant, and errors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
from nats.aio.client import Client as NatsClient

from libs.eventstore.appender import Appender
from libs.eventstore.errors import QueueFull, StoreFull, StoreUnavailable
from libs.eventstore.feed.relay import Relay
from libs.eventstore.keyring import Keyring
from libs.eventstore.store import EventStore
from libs.rpc import errors
from libs.rpc.tenants import Tenants
from services.ingestion.catalogue import Registering
from services.ingestion.erasing import Erasing
from services.ingestion.event_types import EventTypes
from services.ingestion.quarantine import Quarantine
from services.ingestion.recording import Recorder, TenantSecrets

_RETRY_SECONDS: Final = 0.25

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Parts:
    """What the service is made of; `__main__` puts it together."""

    store: EventStore
    appender: Appender
    keyring: Keyring
    quarantine: Quarantine
    event_types: EventTypes
    registering: Mapping[int, Registering]
    recorder: Recorder
    erasing: Erasing
    relay: Relay
    nats: NatsClient
    tenants: Tenants
    secrets: dict[int, TenantSecrets]

    def tenant_of(self, context: Context) -> TenantSecrets:
        """Return the tenant that a call names.

        Raises:
            CallError: the settings do not know it.
        """
        return self.secrets[self.tenants.tenant_of(context).number]


class Calls:
    """What the calls of one matter have in common: the parts of the service."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts


def call_error(error: Exception) -> errors.CallError:
    """Return a store's error as its caller sees it."""
    match error:
        case QueueFull():
            return errors.queue_full(error.queued, _RETRY_SECONDS)
        case StoreFull():
            return errors.store_full()
        case StoreUnavailable():
            return errors.store_unavailable()
        case _:
            raise error
