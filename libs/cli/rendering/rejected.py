"""Events that were rejected: the list, one beside the rules it breaks, and what became of them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from google.protobuf import json_format
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1 import ingestion_pb2 as ingestion

_MOST_VALUE = 240
_OUTCOMES = {
    ingestion.OUTCOME_RECORDED: (palette.KEPT, palette.GOOD, "recorded"),
    ingestion.OUTCOME_DUPLICATE: ("=", palette.QUIET, "recorded before"),
    ingestion.OUTCOME_REJECTED: (palette.BROKEN, palette.BAD, "still rejected"),
    ingestion.OUTCOME_CONFLICT: (
        palette.BROKEN,
        palette.ATTENTION,
        "kept, since another event has its id",
    ),
}


def rejected_event(one: ingestion.RejectedEvent, *, now: datetime) -> RenderableType:
    """Lays out a rejected event, each field with the rule it breaks beside it.

    Args:
        one: The event with its violations.
        now: The present, in the reader's time zone.
    """
    when = words.when(words.local(one.rejected_at, now.tzinfo), now)
    head = Text.assemble(
        (f"Rejected event {one.rejected_id:,}", palette.STRONG), (f"  {when}", palette.QUIET)
    )
    left = {found.field: found.description for found in one.violations}
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_column(no_wrap=True, width=1)
    grid.add_column(overflow="fold", ratio=3)
    grid.add_column(overflow="fold", ratio=2)
    for depth, name, path, value in _fields(fields_of(one.event), 0, ""):
        found = {field: left.pop(field) for field in [*left] if _is_at(field, path)}
        mark = Text(palette.BROKEN if found else "", style=palette.BAD)
        told = Text.assemble(
            (f"{name}: " if name else "", palette.QUIET),
            (words.clip(words.plain(value), _MOST_VALUE), palette.ATTENTION if found else ""),
        )
        said = Text("\n").join(_said(field, path, text) for field, text in found.items())
        grid.add_row(mark, Padding(told, (0, 0, 0, 2 * depth)), said)
    missing = [
        Text.assemble(
            (f"{palette.BROKEN} ", palette.BAD),
            (words.plain(field) or "the event", palette.ATTENTION),
            f" {text}",
        )
        for field, text in left.items()
    ]
    return Group(Text(), head, *missing, Text(), Padding(grid, (0, 1, 0, 0)))


def retried(
    counts: Mapping[int, int], still: Sequence[tuple[int, ingestion.Verdict]], *, most: int = 20
) -> RenderableType:
    """Lays out what became of rejected events that were tried again.

    Args:
        counts: How many had each Outcome.
        still: Those that are kept, with their verdicts.
        most: How many of these to show.
    """
    if not counts:
        return Text(f"{palette.KEPT} nothing was there to try again", style=palette.GOOD)
    lines: list[RenderableType] = [
        Text.assemble((f"{symbol} {counts[outcome]:,} {said}", style))
        for outcome, (symbol, style, said) in _OUTCOMES.items()
        if counts.get(outcome)
    ]
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(justify="right", style=palette.STRONG)
    grid.add_column(overflow="fold", ratio=1)
    for number, verdict in still[:most]:
        grid.add_row(f"{number:,}", Text("\n").join(_why(verdict)))
    if len(still) > most:
        grid.add_row("", Text(f"… and {len(still) - most:,} more", style=palette.QUIET))
    if still:
        lines += [Text(), grid]
    return Group(*lines)


def corrected(rejected_id: int, verdict: ingestion.Verdict) -> RenderableType:
    """Lays out what became of a corrected event."""
    if verdict.outcome == ingestion.OUTCOME_RECORDED:
        told = f"{palette.KEPT} recorded at position {verdict.position:,}, in the place of "
        return Text(f"{told}rejected event {rejected_id:,}", style=palette.GOOD)
    if verdict.outcome == ingestion.OUTCOME_DUPLICATE:
        told = (
            f"= recorded before, at position {verdict.position:,}; rejected event {rejected_id:,}"
        )
        return Text(f"{told} is no longer kept")
    told = f"{palette.BROKEN} not recorded; rejected event {rejected_id:,} is as it was"
    return Group(Text(told, style=palette.BAD), *_why(verdict))


def fields_of(event: Event) -> dict[str, object]:
    """Return an event's fields by the names that violations use."""
    told: dict[str, object] = json_format.MessageToDict(event, preserving_proto_field_name=True)
    return told


def _why(verdict: ingestion.Verdict) -> list[Text]:
    if verdict.outcome == ingestion.OUTCOME_CONFLICT:
        return [Text("another event has its id", style=palette.ATTENTION)]
    return [
        Text.assemble((words.plain(found.field), palette.ATTENTION), f" {found.description}")
        for found in verdict.violations
    ]


def _fields(value: object, depth: int, path: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield a line for each field: how deep it is, its name, its path and its value."""
    if isinstance(value, dict):
        inner = [(name, f"{path}.{name}" if path else name, one) for name, one in value.items()]
    elif isinstance(value, list):
        inner = [(palette.DASH, f"{path}[{index}]", one) for index, one in enumerate(value)]
    else:
        return
    for name, at, one in inner:
        whole = isinstance(one, dict | list)
        yield depth, words.plain(name), at, "" if whole else _word(one)
        yield from _fields(one, depth + 1, at)


def _word(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


def _is_at(field: str, path: str) -> bool:
    # A violation may go on into a text that is JSON itself.
    return field == path or field.startswith(f"{path}#")


def _said(field: str, path: str, description: str) -> Text:
    further = words.plain(field[len(path) + 1 :])
    return Text.assemble((f"{further} " if further else "", palette.ATTENTION), description)
