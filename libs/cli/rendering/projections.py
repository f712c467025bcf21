"""Where the projections of all services stand, and which generations of them there are."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.projection.v1 import projection_pb2 as api

Listed = Mapping[str, Sequence[api.Projection] | None]
"""The projections of each service, by its name; None: it does not answer."""

Rates = Mapping[tuple[str, str, int], float]
"""Events folded a second, by service, projection and generation."""

# Of a table: the empty line, its head, its end, and the cursor's.
_LINES_AROUND: Final = 6
_STATES: Final = {
    api.PROJECTION_STATE_UNSPECIFIED: ("?", palette.QUIET, "unknown"),
    api.PROJECTION_STATE_CATCHING_UP: ("○", palette.ATTENTION, "catching up"),
    api.PROJECTION_STATE_LIVE: ("●", palette.GOOD, "live"),
    api.PROJECTION_STATE_WAITING: ("○", palette.ATTENTION, "waiting"),
    api.PROJECTION_STATE_HALTED: (palette.BROKEN, palette.BAD, "halted"),
    api.PROJECTION_STATE_PAUSED: ("◌", palette.ATTENTION, "paused"),
}
_GENERATION_STATES: Final = {
    api.GENERATION_STATE_UNSPECIFIED: (palette.QUIET, "unknown"),
    api.GENERATION_STATE_FILLING: (palette.ATTENTION, "filling"),
    api.GENERATION_STATE_FOLLOWING: ("", "following"),
    api.GENERATION_STATE_SERVING: (palette.GOOD, "serving"),
    api.GENERATION_STATE_RETIRED: (palette.QUIET, "retired"),
    api.GENERATION_STATE_FAILED: (palette.BAD, "failed"),
}


class _Row(NamedTuple):
    """A line of the table: a generation, of which the one that answers stands for all."""

    key: tuple[str, str, int]
    name: str
    position: Text
    lag: Text
    state: Text
    is_quiet: bool


def projections_table(
    listed: Listed, *, now: datetime, rates: Rates | None = None, height: int = 0
) -> RenderableType:
    """Lays out every projection of every service, with its generations.

    Args:
        listed: The projections of each service.
        now: The present, in the reader's time zone.
        rates: What each folds a second; left out: not shown.
        height: How many lines there is room for: where they don't suffice, what is live and at the
            head is counted and not shown. Default 0: any number.
    """
    head = max((one.head_position for its in listed.values() for one in its or ()), default=0)
    rows = {
        service: [row for one in its or () for row in _rows(service, one, head, now)]
        for service, its in listed.items()
    }
    notes = list(_notes(listed))
    lines = _LINES_AROUND + len(notes) + len(rows) + sum(map(len, rows.values()))
    crowded = 0 < height < lines
    table, left_out = _table(with_rate=rates is not None), 0
    for service, its in rows.items():
        table.add_row(*_beginning(service, listed[service] is None, len(table.columns)))
        for row in its:
            if crowded and row.is_quiet:
                left_out += 1
            else:
                table.add_row(*_cells(row, rates))
    if left_out:
        notes.insert(0, Text(f"and {left_out} more, live and at the head", style=palette.QUIET))
    return Group(Text(), table, *notes)


def state_of(one: api.Projection) -> Text:
    """Says in which state a projection is, and what it has parked."""
    symbol, style, state = _STATES.get(one.state, _STATES[api.PROJECTION_STATE_UNSPECIFIED])
    parked = f", {one.parked_keys:,} parked" if one.parked_keys else ""
    return Text.assemble((f"{symbol} {state}", style), (parked, palette.BAD))


def reason_of(service: str, one: api.Projection) -> Text | None:
    """Says why a projection halted or is paused; None where there is nothing to say."""
    name = f"{service}/{words.plain(one.name)}"
    if one.halt_reason:
        return Text(f"{name} halted: {words.plain(one.halt_reason)}", style=palette.BAD)
    if one.pause_reason:
        return Text(f"{name} is paused: {words.plain(one.pause_reason)}", style=palette.ATTENTION)
    return None


def _table(*, with_rate: bool) -> Table:
    table = Table(
        box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False, collapse_padding=True
    )
    table.add_column("projection", overflow="fold")
    for name in ("gen.", "position", "lag", *(["rate"] if with_rate else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("state", min_width=len("○ catching up"))
    return table


def _beginning(service: str, is_silent: bool, columns: int) -> list[Text]:
    silent = Text(f"{palette.BROKEN} does not answer", style=palette.BAD) if is_silent else Text()
    return [Text(service, style=palette.STRONG), *[Text()] * (columns - 2), silent]


def _cells(row: _Row, rates: Rates | None) -> Iterator[Text]:
    yield Text(f"  {row.name}")
    yield Text(f"{row.key[2] or palette.DASH}", style="" if row.name else palette.QUIET)
    yield row.position
    yield row.lag
    if rates is not None:
        rate = rates.get(row.key)
        shown = "" if rate is None else f"{rate:,.0f}/s"
        yield Text(shown, style=palette.STRONG if rate else palette.QUIET)
    yield row.state


def _rows(service: str, one: api.Projection, head: int, now: datetime) -> Iterator[_Row]:
    """Gives the generation that answers, as its projection, and then the others."""
    answering = next((each for each in one.generations if _answers(each, one)), None)
    head = max(head, one.head_position)
    state = state_of(one)
    if one.is_reactor:
        state.append(", a reactor", palette.QUIET)
    if answering is not None:
        state.append(_shared(answering), palette.QUIET)
    yield _Row(
        (service, one.name, answering.generation if answering else 0),
        words.plain(one.name),
        Text(f"{one.position:,}"),
        _lag(head - one.position).append(_behind(one, now), palette.QUIET),
        state,
        is_quiet=_is_quiet(one, head),
    )
    for each in one.generations:
        if each is not answering:
            yield _other(service, one, each, head, now)


def _other(
    service: str, one: api.Projection, each: api.Generation, head: int, now: datetime
) -> _Row:
    is_there = each.state != api.GENERATION_STATE_FAILED
    return _Row(
        (service, one.name, each.generation),
        "",
        Text(f"{each.position:,}" if is_there else "", style=palette.QUIET),
        _lag(head - each.position) if is_there else Text(),
        _generation(each, one, head, now),
        is_quiet=False,
    )


def _answers(each: api.Generation, of: api.Projection) -> bool:
    return each.state == api.GENERATION_STATE_SERVING and each.fold_version == of.fold_version


def _is_quiet(one: api.Projection, head: int) -> bool:
    """Tells whether there is nothing to see of a projection."""
    at_head = one.state == api.PROJECTION_STATE_LIVE and one.position >= head
    return at_head and not one.parked_keys and len(one.generations) < 2


def _lag(lag: int) -> Text:
    return Text(f"{max(0, lag):,}", style=palette.ATTENTION if lag > 0 else palette.QUIET)


def _behind(one: api.Projection, now: datetime) -> str:
    if not one.HasField("behind_since"):
        return ""
    return f", {words.age(words.local(one.behind_since, now.tzinfo), now).removesuffix(' ago')}"


def _generation(each: api.Generation, of: api.Projection, head: int, now: datetime) -> Text:
    style, state = _GENERATION_STATES.get(each.state, (palette.QUIET, "unknown"))
    text = Text.assemble((state, style), (_remark(each, head, now), palette.QUIET))
    if each.fold_version != of.fold_version:
        text.append(f", fold version {each.fold_version}", palette.ATTENTION)
    return text.append(_shared(each), palette.QUIET)


def _remark(each: api.Generation, head: int, now: datetime) -> str:
    if each.state == api.GENERATION_STATE_FILLING:
        return f" {min(99, 100 * each.position // max(head, 1))} %"
    if each.state == api.GENERATION_STATE_RETIRED and each.HasField("retired_at"):
        return f" {words.age(words.local(each.retired_at, now.tzinfo), now)}"
    if each.state == api.GENERATION_STATE_FOLLOWING and each.compared_position:
        differ = f"{words.count(each.differing_rows, 'row')} differed"
        return f", {differ if each.differing_rows else 'equal'} at {each.compared_position:,}"
    return ""


def _shared(each: api.Generation) -> str:
    """Says among how many processes a generation's ranges are shared; nothing where it is one."""
    if len(each.ranges) < 2:
        return ""
    workers = {one.worker for one in each.ranges if one.worker}
    free = sum(not one.worker for one in each.ranges)
    by = [words.count(len(workers), "worker")] if workers else []
    by += [f"{free} by nobody" if workers else "nobody"] if free else []
    return f", {len(each.ranges)} ranges by {', '.join(by)}"


def _notes(listed: Listed) -> Iterator[Text]:
    for service, its in listed.items():
        for one in its or ():
            if reason := reason_of(service, one):
                yield reason
            for each in one.generations:
                if each.failure:
                    of = f"{service}/{words.plain(one.name)}, generation {each.generation} failed: "
                    yield Text(of + words.plain(each.failure), style=palette.BAD)
