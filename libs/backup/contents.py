"""What a backup holds: every table of which no row can be folded again."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

DATA_KEYS_TABLE: Final = "data_keys"
EVENT_KEYS_TABLE: Final = "event_keys"
EVENTS_TABLE: Final = "events"


@dataclass(frozen=True, slots=True)
class Part:
    """One service's database, as far as it is part of a backup.

    Attributes:
        name: Of its directory in the backup.
        left_out: The tables that are not dumped though they are not folded, with the reason.
        kept: The tables that are dumped, where all others are folded; empty: all but those left
            out, so that a table which a later release adds is not forgotten.
    """

    name: str
    left_out: Mapping[str, str]
    kept: tuple[str, ...] = ()


_MIGRATIONS: Final = {"schema_migrations": "the manifest says which migrations had run"}
_OF_PROJECTIONS: Final = MappingProxyType(
    _MIGRATIONS | {"outbox_sender": "who sent the outbox says nothing about who will"}
)
STORE: Final = Part(
    "store",
    MappingProxyType(
        {
            **_MIGRATIONS,
            "relay_lease": "who led the relay says nothing about who will",
            DATA_KEYS_TABLE: "apart, with a manifest of its own",
            EVENT_KEYS_TABLE: "beside the data keys",
        }
    ),
)
PARTS: Final = (
    # A reactor's state; which midnights were looked at is on no line.
    Part("engagement", _OF_PROJECTIONS, kept=("level_sweeps", "outbox")),
    # Where employees and teams are reached was never an event.
    Part("notification", _OF_PROJECTIONS, kept=("outbox", "recipients")),
    STORE,
)
"""The store comes last: see `dump`."""
