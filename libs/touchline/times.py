"""Times as whole microseconds since 1970 in UTC: what databases, envelopes and folds count in."""

from google.protobuf.timestamp_pb2 import Timestamp

MICROS_PER_SECOND = 1_000_000
_NANOS_PER_MICRO = 1_000


def micros_of(timestamp: Timestamp) -> int:
    """Return a timestamp as microseconds since 1970; what is finer is cut off.

    The range is not checked: a timestamp from a caller may hold any seconds and nanos.
    """
    return timestamp.seconds * MICROS_PER_SECOND + timestamp.nanos // _NANOS_PER_MICRO


def timestamp_of(micros: int) -> Timestamp:
    """Return microseconds since 1970 as a timestamp; nanos are never negative."""
    seconds, rest = divmod(micros, MICROS_PER_SECOND)
    return Timestamp(seconds=seconds, nanos=rest * _NANOS_PER_MICRO)
