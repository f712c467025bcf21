"""What an import calls: it records events and merges profiles, patiently, and each of them once."""

from collections.abc import Sequence
from typing import Final

import grpc

from libs.cli.importing.merges import Decide, Decided
from libs.cli.importing.run import Record
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed
from touchline.ingestion.v1.ingestion_pb2 import Verdict
from touchline.ingestion.v1.ingestion_service_pb2 import GetStoreStatusRequest
from touchline.profile.v1.profile_service_pb2 import MergeProfilesRequest

_FIRST_PATIENCE: Final = 3.0
_PATIENCE: Final = 60.0
_ALREADY_ONE: Final = "SAME_PROFILE"
_INVALID: Final = "INVALID_REQUEST"
_UNKNOWN: Final = "PROFILE_NOT_FOUND"
_STOPS: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNIMPLEMENTED,
)


def recorder(client: Client) -> Record:
    """Return what records: patient with a service that answered before, impatient at first."""
    patience = _FIRST_PATIENCE

    async def record(events: Sequence[Event]) -> Sequence[Verdict]:
        nonlocal patience
        verdicts = await client.record(events, patience=patience)
        patience = _PATIENCE
        return verdicts

    return record


def decider(client: Client) -> Decide:
    """Return what merges two profiles, once: the request's decision_id names the decision.

    Two that are one already count as merged before. It waits for what was recorded before it.
    """
    head: int | None = None
    after = 0
    made = set[str]()

    async def decide(request: MergeProfilesRequest) -> Decided:
        nonlocal head, after
        try:
            if head is None:
                status = await client.ingestion.GetStoreStatus(GetStoreStatusRequest())
                head = after = status.status.head_position
            request.after_position = after
        except grpc.aio.AioRpcError as error:
            raise CallFailed.of(error) from None
        try:
            response = await client.profile.MergeProfiles(request, timeout=_PATIENCE)
        except grpc.aio.AioRpcError as error:
            return refused(CallFailed.of(error))
        position = response.result.position
        after = max(after, position)
        new = position > head and request.decision_id not in made
        made.add(request.decision_id)
        return Decided(new=new)

    return decide


def refused(failed: CallFailed) -> Decided:
    """Return what a merge that was not made says.

    Raises:
        CallFailed: The service can't be asked: the import stops, and goes on when it is repeated.
    """
    # The id names the two and nothing else: another decision with it merged the same two, told by
    # another file, for another reason.
    told_before = failed.reason == _INVALID and _fields(failed) == {"decision_id"}
    if failed.reason == _ALREADY_ONE or told_before:
        return Decided(new=False)
    if failed.code is grpc.StatusCode.UNAVAILABLE and not failed.reason:
        silent = "The profile service, which merges, does not answer; start it, or name it with"
        raise CallFailed(failed.code, f"{silent} --profile.", reason=failed.code.name)
    if failed.code in _STOPS:
        raise failed
    if failed.reason == _UNKNOWN:
        return Decided(new=False, problem="one of the two is no profile: nothing names it")
    return Decided(new=False, problem=str(failed))


def _fields(failed: CallFailed) -> set[str]:
    return {field for field, _ in failed.violations}
