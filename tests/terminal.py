"""What the tests of the terminal's output share."""

import io
from collections.abc import Sequence
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Console, RenderableType

from touchline.events.v1 import event_pb2 as ev
from touchline.profile.v1 import profile_pb2 as profiles

NOW = datetime(2026, 11, 3, 15, 20, tzinfo=UTC)


def shown(renderable: RenderableType, width: int = 120) -> str:
    """Returns what a terminal of a width shows, and fails when a line is wider than that."""
    console = Console(width=width, file=io.StringIO(), record=True, color_system="truecolor")
    console.print(renderable)
    text = console.export_text()
    assert all(cell_len(line) <= width for line in text.splitlines())
    return text


def joined(text: str) -> str:
    """Returns a text with every run of white space as one space."""
    return " ".join(text.split())


def entries(events: Sequence[ev.Event]) -> list[profiles.TimelineEntry]:
    """Returns events, in the order they happened, as a timeline's entries, newest first."""
    numbers = {
        value.name.removeprefix("EVENT_TYPE_").lower(): value.number
        for value in ev.EventType.DESCRIPTOR.values
    }
    told = []
    for position, event in enumerate(events, start=1):
        number = numbers[str(event.WhichOneof("fact"))]
        told.append(profiles.TimelineEntry(position=position, event=event, type=number))  # type: ignore[arg-type]
    return told[::-1]
