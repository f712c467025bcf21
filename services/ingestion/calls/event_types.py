"""The calls about types of custom events."""

import asyncio
from typing import Final

from eventsourcing.persistence import OperationalError

from libs.eventstore.errors import StoreFull, StoreUnavailable
from libs.rpc import errors
from services.ingestion import domain
from services.ingestion.calls.parts import Calls, Context, call_error
from services.ingestion.catalogue import Definition, StaleVersion, TooManyTypes
from services.ingestion.schemas import Schema, SchemaError
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType

_PATH: Final = "event_type."


class EventTypeCalls(Calls):
    """Registers types of custom events, and lists them."""

    async def RegisterCustomEventType(  # noqa: N802 - gRPC names it
        self, request: api.RegisterCustomEventTypeRequest, context: Context
    ) -> api.RegisterCustomEventTypeResponse:
        """Register a type, or a new version of one."""
        parts, wanted = self._parts, request.event_type
        tenant = parts.tenant_of(context).tenant
        await asyncio.to_thread(_check, request)
        definition = Definition(wanted.description, wanted.json_schema)
        register = parts.registering[tenant.number].register
        expected = request.expected_version
        try:
            version, unchanged = await asyncio.to_thread(
                register, wanted.name, definition, expected
            )
            # From now on it holds here, and elsewhere as soon as an event needs it.
            await parts.event_types.look(tenant.number)
        except StaleVersion as error:
            name = f"The event type {wanted.name!r}"
            raise errors.stale_version(name, error.version, expected) from error
        except TooManyTypes as error:
            raise errors.invalid_request([("event_type", str(error))]) from error
        except OperationalError as error:
            raise errors.store_unavailable() from error
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        registered = parts.event_types.newest(tenant.number, wanted.name)
        if registered is None or registered.version != version:
            registered = _as_asked(wanted, version)
        return api.RegisterCustomEventTypeResponse(event_type=registered, unchanged=unchanged)

    async def ListCustomEventTypes(  # noqa: N802 - gRPC names it
        self, request: api.ListCustomEventTypesRequest, context: Context
    ) -> api.ListCustomEventTypesResponse:
        """List the registered types."""
        del request
        parts = self._parts
        number = parts.tenant_of(context).tenant.number
        try:
            await parts.event_types.look(number)
        except (StoreFull, StoreUnavailable) as error:
            raise call_error(error) from error
        return api.ListCustomEventTypesResponse(event_types=parts.event_types.of(number))


def _check(request: api.RegisterCustomEventTypeRequest) -> None:
    violations = domain.type_violations(request.event_type, _PATH)
    try:
        Schema(request.event_type.json_schema, f"{_PATH}json_schema")
    except SchemaError as error:
        violations += error.violations
    if request.expected_version < 0:
        violations.append(("expected_version", "is below 0; give the newest version you know"))
    if violations:
        raise errors.invalid_request(violations)


def _as_asked(wanted: CustomEventType, version: int) -> CustomEventType:
    """Return what was registered, when a newer version has taken its place already."""
    return CustomEventType(
        name=wanted.name,
        description=wanted.description,
        json_schema=wanted.json_schema,
        version=version,
    )
