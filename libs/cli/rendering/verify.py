"""Whether the chain is whole and every projection stands on it."""

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
from touchline.ingestion.v1 import ingestion_service_pb2 as ingestion
from touchline.projection.v1 import projection_pb2 as projection


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was verified: what, whether it holds, and what to know of it."""

    claim: str
    holds: bool
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Verification:
    """What a verification found.

    Attributes:
        checks: What was verified.
        problems: What is wrong with the store, in the store's words.
        sealed: Events that nobody can open, since their owner was erased.
    """

    checks: Sequence[Check]
    problems: Sequence[str]
    sealed: int

    @property
    def passed(self) -> bool:
        """Whether everything holds."""
        return all(check.holds for check in self.checks)


def verification(
    last: ingestion.VerifyStoreResponse,
    projections: Mapping[str, Sequence[projection.Projection] | None],
) -> Verification:
    """Draws the conclusions of a verification.

    A projection stands on the chain when the store's chain at its position is its own; one that
    has read nothing yet stands on it as well.

    Args:
        last: The store's last message. Its `chains` must hold the projections' positions.
        projections: The projections of each service, by its name; None: it does not answer.
    """
    sound = last.finished and not last.problems
    whole = sound and last.checked_events >= last.head_position
    read = f"{words.count(last.checked_events, 'event')} hashed anew"
    span = f"1 to {last.head_position:,}" if last.head_position else "the store is empty"
    gap = f"{words.count(last.checked_events, 'event')} up to position {last.head_position:,}"
    checks = [
        Check("chain intact", sound, read if sound else "see below"),
        Check("positions contiguous", whole, span if whole else gap if sound else "not proven"),
    ]
    for service, its in projections.items():
        if its is None:
            checks.append(Check(f"{service} at the same chain", False, "it does not answer"))
            continue
        checks += [_projection(f"{service}/{one.name}", one, last.chains) for one in its]
    return Verification(checks, list(last.problems), last.sealed_events)


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


def progress(console: Console, noun: str = "events") -> Progress:
    """Returns a progress bar with rate and time left, for `add_task(description, total=…)`."""
    return Progress(
        SpinnerColumn("line"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=None, complete_style=palette.CUSTOMER, finished_style=palette.GOOD),
        MofNCompleteColumn(),
        _Rate(noun),
        TimeRemainingColumn(compact=True),
        console=console,
    )


class _Rate(ProgressColumn):
    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        rate = f"{speed:,.0f} {self._noun}/s" if speed else f"- {self._noun}/s"
        return Text(rate, style=palette.QUIET)


def _projection(name: str, one: projection.Projection, chains: Mapping[int, bytes]) -> Check:
    claim = f"{name} at the same chain"
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
    return Check(claim, holds=True, remark=f"position {one.position:,}")


def _verdict(result: Verification) -> Iterator[Text]:
    if result.passed:
        yield Text("Everything holds", style=f"bold {palette.GOOD}")
    else:
        failed = sum(not check.holds for check in result.checks)
        of_all = f"{failed} of {len(result.checks)} checks failed"
        yield Text(of_all, style=f"bold {palette.BAD}")


def _notes(result: Verification) -> Iterator[Text]:
    if result.sealed:
        sealed = words.count(result.sealed, "event")
        yield Text(f"{palette.ERASED}  {sealed} of erased customers stay sealed", palette.QUIET)
    if result.problems:
        yield Text()
        yield Text("What the store says", style=palette.STRONG)
    for problem in result.problems:
        yield Text(f"{palette.BROKEN} {words.plain(problem)}", style=palette.BAD)
