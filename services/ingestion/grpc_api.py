"""The ingestion service as its callers see it."""

from services.ingestion.calls.erasure import ErasureCalls
from services.ingestion.calls.event_types import EventTypeCalls
from services.ingestion.calls.quarantine import QuarantineCalls
from services.ingestion.calls.recording import RecordingCalls
from services.ingestion.calls.store import StoreCalls
from services.ingestion.calls.streaming import StreamingCalls
from touchline.ingestion.v1.ingestion_service_pb2_grpc import IngestionServiceServicer


class IngestionService(
    RecordingCalls,
    StreamingCalls,
    QuarantineCalls,
    EventTypeCalls,
    StoreCalls,
    ErasureCalls,
    IngestionServiceServicer,
):
    """Implements touchline.ingestion.v1.IngestionService; the proto is the contract."""
