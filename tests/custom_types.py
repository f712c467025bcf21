"""Types of custom events that tests register, through the service and without one."""

import json
from typing import Final

from eventsourcing.persistence import StoredEvent

from libs.eventstore.aggregates.stored import CHANGES, Saving, entry_of
from services.ingestion.catalogue import APPLICATION, Catalogue
from services.ingestion.recording import Recorder, TenantSecrets
from touchline.client import Client
from touchline.ingestion.v1 import ingestion_service_pb2 as api
from touchline.ingestion.v1.ingestion_pb2 import CustomEventType
from touchline.store.v1.store_pb2 import APPEND_OUTCOME_RECORDED, AppendRequest, AppendUnit

ANYTHING: Final = "webinar.attended"
"""The type that the custom events of tests have."""


async def register_type(
    client: Client, name: str = ANYTHING, json_schema: str = "{}", *, known: int = 0
) -> api.RegisterCustomEventTypeResponse:
    """Register a type through the service; `known` is the newest version its caller knows."""
    request = api.RegisterCustomEventTypeRequest(
        event_type=CustomEventType(name=name, json_schema=json_schema), expected_version=known
    )
    return await client.ingestion.RegisterCustomEventType(request, timeout=20)


async def register_anything(recorder: Recorder, secrets: TenantSecrets) -> None:
    """Register a tenant's first type, whose properties may be anything, where no service runs."""
    told = {"name": ANYTHING, "description": "", "json_schema": "{}"}
    stored = StoredEvent(
        originator_id=Catalogue.create_id(),
        originator_version=1,
        topic="ingestion.CustomEventTypes.FirstRegistered",
        state=json.dumps(told).encode(),
    )
    entry = entry_of(stored, secrets.identity_keys, APPLICATION, CHANGES, Saving())
    request = AppendRequest(tenant=secrets.tenant.name, units=[AppendUnit(events=[entry])])
    (verdict,) = (await recorder.append(secrets, request, "")).verdicts
    assert verdict.outcome == APPEND_OUTCOME_RECORDED
