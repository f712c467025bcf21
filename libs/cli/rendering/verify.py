"""Whether the line is whole, the feed continues it, and every projection is what it folds to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.cli.rendering.differences import differing_rows
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.projection.v1 import projection_pb2 as projection
from touchline.projection.v1 import projection_service_pb2 as projections


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified.

    Attributes:
        claim: What.
        holds: Whether it does.
        remark: What to know of it.
        problems: What is wrong, in the words of who looked.
        tables: Of a projection: how each of its tables compares with a copy folded anew.
    """

    claim: str
    holds: bool
    remark: str = ""
    problems: Sequence[str] = ()
    tables: Sequence[projection.TableComparison] = ()


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        checks: What was verified.
        sealed: Events that nobody can open, since their owner was erased.
    """

    checks: Sequence[Check]
    sealed: int = 0

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return all(check.holds for check in self.checks)


def store_checks(last: ingestion.VerifyStoreResponse) -> list[Check]:
    """Draws the conclusions of the last message of VerifyStore."""
    sound = last.finished and not last.problems
    whole = sound and last.checked_events >= last.head_position
    read = f"{words.count(last.checked_events, 'event')} hashed anew"
    span = f"1 to {last.head_position:,}" if last.head_position else "the store is empty"
    gap = f"{words.count(last.checked_events, 'event')} up to position {last.head_position:,}"
    remark = span if whole else gap if sound else "not proven"
    return [
        Check("chain intact", sound, read if sound else "see below", list(last.problems)),
        Check("positions contiguous", whole, remark),
    ]


def feed_check(last: ingestion.VerifyFeedResponse) -> Check:
    """Draws the conclusion of the last message of VerifyFeed."""
    holds = last.finished and not last.problems
    if not holds:
        remark = "see below" if last.problems else "not read to its end"
    elif not last.batches:
        remark = "it is empty"
    else:
        messages = words.count(last.checked_batches, "message")
        behind = max(0, last.head_position - last.last_position)
        remark = f"{last.first_position:,} to {last.last_position:,} in {messages}"
        remark += f", {behind:,} behind" if behind else ""
    return Check("feed as the store", holds, remark, list(last.problems))


def standing_check(service: str, one: projection.Projection, chains: Mapping[int, bytes]) -> Check:
    """Says whether a projection stands on the chain.

    It does when the store's chain at its position is its own; one that has read nothing yet does as
    well.

    Args:
        service: Whose projection it is.
        one: As the service lists it.
        chains: What the store's chain is at each projection's position.
    """
    claim = f"{service}/{one.name}"
    if one.state == projection.PROJECTION_STATE_HALTED:
        return Check(claim, holds=False, remark=f"halted: {words.plain(one.halt_reason)}")
    if not one.position:
        return Check(claim, holds=True, remark="it has read nothing yet")
    if one.position not in chains:
        ahead = f"position {one.position:,} is past the head: the store is not the one it read"
        return Check(claim, holds=False, remark=ahead)
    if chains[one.position] != one.chain:
        fork = f"another chain at position {one.position:,}: the store is not the one it read"
        return Check(claim, holds=False, remark=fork)
    acts = "; a reactor" if one.is_reactor else ""
    return Check(claim, holds=True, remark=f"same chain at position {one.position:,}{acts}")


def copy_check(service: str, name: str, last: projections.VerifyProjectionResponse) -> Check:
    """Draws the conclusion of the last message of VerifyProjection."""
    claim = f"{service}/{name}"
    if not last.finished:
        return Check(claim, holds=False, remark="not compared")
    differing = sum(table.differing_rows for table in last.tables)
    rows = words.count(sum(table.live_rows for table in last.tables), "row")
    remark = f"as folded anew: {rows} at {last.position:,}"
    if last.parked_keys:
        remark += f"; without {words.count(last.parked_keys, 'parked customer')}"
    if differing:
        remark = f"not as folded anew: {words.count(differing, 'row')}, see below"
    return Check(claim, not differing, remark, tables=list(last.tables))


def silent_check(service: str) -> Check:
    """Says that a service does not answer."""
    return Check(service, holds=False, remark="it does not answer")


def verify_result(result: Verification) -> RenderableType:
    """Lays out what a verification found, one line for each thing that was verified."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    for check in result.checks:
        style = palette.GOOD if check.holds else palette.BAD
        symbol = palette.KEPT if check.holds else palette.BROKEN
        grid.add_row(
            Text(symbol, style=f"bold {style}"),
            Text(check.claim, style=palette.STRONG),
            Text(check.remark, style=palette.QUIET if check.holds else style),
        )
    return Group(Text(), *_verdict(result), Text(), grid, *_notes(result), Text())


def progress(console: Console, noun: str = "events", *, transient: bool = False) -> Progress:
    """Returns a progress bar with rate and time left, for `add_task(description, total=…)`.

    Args:
        console: Where to show it.
        noun: What is counted.
        transient: Whether it goes at the end.
    """
    return Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, complete_style=palette.CUSTOMER, finished_style=palette.GOOD),
        MofNCompleteColumn(),
        _Rate(noun),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=transient,
    )


class _Rate(ProgressColumn):
    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        rate = f"{speed:,.0f} {self._noun}/s" if speed else f"- {self._noun}/s"
        return Text(rate, style=palette.QUIET)


def _verdict(result: Verification) -> Iterator[Text]:
    if result.passed:
        yield Text("Everything holds", style=f"bold {palette.GOOD}")
    else:
        failed = sum(not check.holds for check in result.checks)
        of_all = f"{failed} of {len(result.checks)} checks failed"
        yield Text(of_all, style=f"bold {palette.BAD}")


def _notes(result: Verification) -> Iterator[RenderableType]:
    if result.sealed:
        sealed = words.count(result.sealed, "event")
        yield Text(f"{palette.ERASED}  {sealed} of erased customers stay sealed", palette.QUIET)
    for check in result.checks:
        if check.problems:
            yield Text(f"\n{check.claim}", style=palette.STRONG)
        for problem in check.problems:
            yield Text(f"{palette.BROKEN} {words.plain(problem)}", style=palette.BAD)
        for table in check.tables:
            if table.differing_rows:
                yield from _differing(check.claim, table)


def _differing(claim: str, table: projection.TableComparison) -> Iterator[RenderableType]:
    yield Text(f"\n{claim}", style=palette.STRONG)
    rows = words.count(table.live_rows, "row")
    yield Text(
        f"{palette.BROKEN} {words.plain(table.table)} has {rows}, its copy {table.copied_rows:,}; "
        f"{words.count(table.differing_rows, 'row')} only one of them has",
        style=palette.BAD,
    )
    yield from differing_rows(table, "anew")
