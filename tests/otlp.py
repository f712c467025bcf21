"""A real OTLP receiver over gRPC, which keeps the spans and metrics that it gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metric_collector
from opentelemetry.proto.collector.metrics.v1 import (
    metrics_service_pb2_grpc as metric_collector_grpc,
)
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_collector
from opentelemetry.proto.collector.trace.v1 import (
    trace_service_pb2_grpc as trace_collector_grpc,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, ResourceMetrics
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a metric: its service, its attributes, and the point as it came."""

    service: str
    attributes: Mapping[str, str]
    data: Any


@dataclass(slots=True)
class Receiver:
    """What came.

    Attributes:
        endpoint: For OTEL_EXPORTER_OTLP_ENDPOINT.
        resource_spans: By export.
        resource_metrics: By export; points are cumulative, so the last counts.
        takes_spans: Cleared by a test that wants spans to wait.
    """

    endpoint: str
    server: grpc.aio.Server
    resource_spans: list[ResourceSpans] = field(default_factory=list)
    resource_metrics: list[ResourceMetrics] = field(default_factory=list)
    takes_spans: asyncio.Event = field(default_factory=asyncio.Event)

    async def stop(self) -> None:
        """Answers nobody any more."""
        await self.server.stop(None)

    def spans(self, service: str = "") -> list[Span]:
        """The spans of a service, or of all."""
        return [
            span
            for one in self.resource_spans
            if service in ("", _service(one))
            for scope in one.scope_spans
            for span in scope.spans
        ]

    def metrics(self) -> dict[str, Metric]:
        """The metrics by name, each as it came last."""
        return {metric.name: metric for _, metric in self._metrics()}

    def points(self, name: str) -> list[Point]:
        """The latest points of a metric, one per service and attributes."""
        latest: dict[tuple[str, frozenset[tuple[str, str]]], Point] = {}
        for service, metric in self._metrics():
            if metric.name == name:
                for data in getattr(metric, metric.WhichOneof("data") or "").data_points:
                    attributes = attributes_of(data.attributes)
                    latest[service, frozenset(attributes.items())] = Point(
                        service, attributes, data
                    )
        return list(latest.values())

    def everything(self) -> bytes:
        """All that came, as bytes."""
        came = (*self.resource_spans, *self.resource_metrics)
        return b"".join(one.SerializeToString() for one in came)

    def _metrics(self) -> Iterator[tuple[str, Metric]]:
        for one in self.resource_metrics:
            service = _service(one)
            for scope in one.scope_metrics:
                for metric in scope.metrics:
                    yield service, metric


class _Traces(trace_collector_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def Export(self, request: Any, _: Any) -> Any:  # noqa: N802 # gRPC's name
        await self._receiver.takes_spans.wait()
        self._receiver.resource_spans.extend(request.resource_spans)
        return trace_collector.ExportTraceServiceResponse()


class _Metrics(metric_collector_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    async def Export(self, request: Any, _: Any) -> Any:  # noqa: N802 # gRPC's name
        self._receiver.resource_metrics.extend(request.resource_metrics)
        return metric_collector.ExportMetricsServiceResponse()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Receives on a free port until the block ends."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    receiver = Receiver(f"http://127.0.0.1:{port}", server)
    receiver.takes_spans.set()
    trace_collector_grpc.add_TraceServiceServicer_to_server(  # type: ignore[no-untyped-call]
        _Traces(receiver), server
    )
    metric_collector_grpc.add_MetricsServiceServicer_to_server(  # type: ignore[no-untyped-call]
        _Metrics(receiver), server
    )
    await server.start()
    try:
        yield receiver
    finally:
        await receiver.stop()


def attributes_of(pairs: Any) -> dict[str, str]:
    """Attributes as text, whatever their type."""
    return {pair.key: _text(pair) for pair in pairs}


def _text(pair: KeyValue) -> str:
    return str(getattr(pair.value, pair.value.WhichOneof("value") or "string_value"))


def _service(one: ResourceSpans | ResourceMetrics) -> str:
    return attributes_of(one.resource.attributes)["service.name"]
