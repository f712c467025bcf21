"""Event ids for callers that make them at random (RFC 9562, section 5.7)."""

import secrets
import time

_VERSION = 0x7 << 76
_VARIANT = 0x2 << 62
_NANOS_PER_MILLI = 1_000_000


def uuid7() -> str:
    """Return a new UUIDv7 in its 36-character form.

    Its first 60 bits are the time to a quarter of a microsecond, so that ids made one after the
    other sort so, and index writes stay local; 62 bits are random.
    """
    millis, rest = divmod(time.time_ns(), _NANOS_PER_MILLI)
    fraction = rest * 4096 // _NANOS_PER_MILLI
    value = millis << 80 | _VERSION | fraction << 64 | _VARIANT | secrets.randbits(62)
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
