"""Sets aside the customers whose events a projection can't fold; docs/adr/0022 says why.

`parked` keeps them, `refolding` folds them again, `calls` answers for both.
"""

from libs.projection.parking.parked import (
    MOST_PARKED,
    Key,
    ParkedKey,
    ParkedKeys,
    ask_to_refold,
    count_parked,
    error_text,
    halt_reason,
    is_erasure,
    is_outage,
    key_of,
    list_parked,
    still_parked,
)

__all__ = [
    "MOST_PARKED",
    "Key",
    "ParkedKey",
    "ParkedKeys",
    "ask_to_refold",
    "count_parked",
    "error_text",
    "halt_reason",
    "is_erasure",
    "is_outage",
    "key_of",
    "list_parked",
    "still_parked",
]
