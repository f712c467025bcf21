"""Where the store and the projections stand, and what was rejected."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import feed, palette, words
from libs.cli.rendering.projections import reason_of, state_of
from touchline.ingestion.v1 import ingestion_pb2 as ingestion
from touchline.profile.v1 import profile_service_pb2 as profiles
from touchline.projection.v1 import projection_pb2 as projection


def status_table(
    store: ingestion.StoreStatus,
    projections: Mapping[str, Sequence[projection.Projection] | None],
    *,
    now: datetime,
    population: profiles.GetPopulationResponse | None = None,
) -> RenderableType:
    """Lays out where the store stands and how far each projection came.

    Args:
        store: The store's status.
        projections: The projections of each service, by its name; None: it does not answer.
        now: The present, in the reader's time zone.
        population: How many profiles, identities and events there are; left out: not shown.
    """
    table = _table("projection", "position", "lag", "state", "last commit", numbers=(1, 2))
    silent = Text(f"{palette.BROKEN} does not answer", style=palette.BAD)
    for service, its in projections.items():
        if its is None:
            table.add_row(service, "", "", silent, "")
        for one in its or ():
            table.add_row(*_projection(service, one, store.head_position, now))
    reasons = [
        reason
        for service, its in projections.items()
        for one in its or ()
        if (reason := reason_of(service, one))
    ]
    return Group(Text(), *_store(store, population), table, *reasons)


def rejected_table(events: Sequence[ingestion.RejectedEvent], *, now: datetime) -> RenderableType:
    """Lays out rejected events with the rules they break; of the events only id and source.

    Args:
        events: The events, newest first.
        now: The present, in the reader's time zone.
    """
    if not events:
        return Text(f"{palette.KEPT} nothing was rejected", style=palette.GOOD)
    table = _table("no.", "when", "event", "why", numbers=(0,))
    for one in events:
        name = words.plain(one.event.event_id) or "without an id"
        fact = one.event.WhichOneof("fact") or "no fact"
        event = Text.assemble(words.clip(name, 40), (f"\n{fact}", palette.QUIET))
        if one.event.source:
            event.append(f" from {words.clip(words.plain(one.event.source), 30)}", palette.QUIET)
        why = Text("\n").join(
            Text.assemble((words.plain(rule.field), palette.ATTENTION), " ", rule.description)
            for rule in one.violations
        )
        when = words.when(words.local(one.rejected_at, now.tzinfo), now)
        table.add_row(f"{one.rejected_id:,}", when, event, why)
    return table


def _store(
    store: ingestion.StoreStatus, population: profiles.GetPopulationResponse | None
) -> Iterator[RenderableType]:
    unrelayed = store.head_position - store.relayed_position
    numbers = Table.grid(padding=(0, 3, 0, 0))
    relay = "by this process" if store.relay_leader else "not by this process"
    cells = [
        _number("head", store.head_position),
        _number("queue", store.queued_events),
        _number("rejected", store.rejected_events, palette.ATTENTION),
        _number("not relayed", unrelayed, palette.ATTENTION),
        Text(f"relayed {relay}", style=palette.QUIET),
    ]
    numbers.add_row(*cells)
    yield Text.assemble(
        ("Store ", palette.STRONG), (store.store_id.hex() or "not opened yet", palette.QUIET)
    )
    yield numbers
    if store.feed_problem:
        yield feed.problem(store.feed_problem)
    if population is not None:
        counted = (
            words.count(population.events, "event"),
            words.count(population.profiles, "profile"),
            f"{population.identities:,} "
            + ("identity" if population.identities == 1 else "identities"),
        )
        yield Text(" · ".join(counted))


def _projection(
    service: str, one: projection.Projection, head: int, now: datetime
) -> Iterator[RenderableType]:
    lag = max(0, max(head, one.head_position) - one.position)
    committed = words.age(words.local(one.committed_at, now.tzinfo), now)
    yield f"{service}/{one.name}"
    yield f"{one.position:,}"
    yield Text(f"{lag:,}", style=palette.ATTENTION if lag else "")
    yield state_of(one)
    yield Text(committed if one.HasField("committed_at") else "never", style=palette.QUIET)


def _number(name: str, number: int, style: str = palette.STRONG) -> Text:
    return Text.assemble(
        (f"{name} ", palette.QUIET), (f"{number:,}", style if number else palette.STRONG)
    )


def _table(*columns: str, numbers: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index in numbers else "left", overflow="fold")
    return table
