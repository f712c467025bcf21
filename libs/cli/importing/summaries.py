"""What came of importing a folder, as tables."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.cli.importing.folder import StepResult
from libs.cli.importing.result import ImportResult, References
from libs.cli.importing.unresolved import Unresolved
from libs.cli.rendering import palette

_COUNTS = ("rows", "recorded", "duplicates", "left_out", "unresolved")


def print_folder(done: Sequence[StepResult], console: Console) -> None:
    """Print what came of each file, by each mapping, and the sums."""
    table = Table(box=None, pad_edge=False)
    table.add_column("file", overflow="fold")
    table.add_column("as", overflow="fold")
    for name in ("rows", "recorded", "duplicates", "left out", "unresolved", "rejected"):
        table.add_column(name, justify="right")
    sums: Counter[str] = Counter()
    for step in done:
        if step.result is None:
            table.add_row(step.file, step.mapping, "absent", style=palette.QUIET)
            continue
        counts = _counts(step.result)
        sums.update(counts)
        table.add_row(step.file, step.mapping, *_cells(counts))
    seconds = sum(step.result.seconds for step in done if step.result)
    table.add_section()
    table.add_row("in all", "", *_cells(sums), style=palette.STRONG)
    console.print(table)
    handled = sums["recorded"] + sums["duplicates"]
    console.print(f"{handled:,} events and merges in {seconds:,.1f} s", highlight=False)
    for step in done:
        if step.result and step.result.report:
            report = f"Not recorded, of {step.file} as {step.mapping}: {step.result.report}"
            console.print(Text(report), soft_wrap=True)


def print_references(references: References, unresolved: Unresolved, console: Console) -> None:
    """Print how many references lead nowhere, by what they refer to, and where each is listed."""
    if unresolved.unwritable:
        console.print(Text(unresolved.unwritable, style=palette.ATTENTION), soft_wrap=True)
    if not references:
        return
    table = Table(box=None, pad_edge=False)
    for name in ("referring", "column", "to"):
        table.add_column(name, overflow="fold")
    table.add_column("not there", justify="right")
    for (file, column, target), count in sorted(references.items()):
        table.add_row(file, column, target, f"{count:,}")
    console.print()
    console.print(table)
    console.print(
        Text(f"Each of these {sum(references.values()):,} references: {unresolved.path}"),
        soft_wrap=True,
    )


def _counts(result: ImportResult) -> dict[str, int]:
    refused = result.rejected + result.broken + result.conflicts
    return {name: getattr(result, name) for name in _COUNTS} | {"rejected": refused}


def _cells(counts: dict[str, int]) -> list[Text]:
    styles = {"recorded": palette.GOOD, "unresolved": palette.ATTENTION, "rejected": palette.BAD}
    return [
        Text(f"{counts[name]:,}", style=styles.get(name, "") if counts[name] else palette.QUIET)
        for name in (*_COUNTS, "rejected")
    ]
