"""What came of importing a folder, as tables."""

from collections import Counter
from collections.abc import Sequence
from os.path import commonprefix

from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.cli.importing.folder import StepResult
from libs.cli.importing.result import ImportResult, References
from libs.cli.importing.unresolved import Unresolved
from libs.cli.rendering import palette

_COUNTS = ("rows", "recorded", "duplicates", "left_out", "unresolved")
_HEADINGS = ("rows", "recorded", "before", "left out", "unresolved", "rejected")


def print_folder(done: Sequence[StepResult], console: Console) -> None:
    """Print what came of each file, by each mapping, and the sums."""
    ending = ending_of(done)
    table = _table("file", "as")
    for name in _HEADINGS:
        table.add_column(name, justify="right")
    sums: Counter[str] = Counter()
    for step in done:
        name = step.file.removesuffix(ending)
        mapping = "" if step.mapping == name else step.mapping
        if step.result is None:
            table.add_row(name, mapping, "absent", style=palette.QUIET)
            continue
        counts = _counts(step.result)
        sums.update(counts)
        table.add_row(name, mapping, *_cells(counts))
    table.add_section()
    table.add_row("in all", "", *_cells(sums), style=palette.STRONG)
    console.print(table)
    seconds = sum(step.result.seconds for step in done if step.result)
    handled = sums["recorded"] + sums["duplicates"]
    files = f" (files end in {ending})" if ending else ""
    console.print(f"{handled:,} events and merges in {seconds:,.1f} s{files}", highlight=False)
    for step in done:
        if step.result and step.result.report:
            report = f"Not recorded, of {step.file} as {step.mapping}: {step.result.report}"
            console.print(Text(report), soft_wrap=True)


def print_references(
    references: References, unresolved: Unresolved, console: Console, ending: str = ""
) -> None:
    """Print how many references lead nowhere, by what they refer to, and where each is listed.

    Args:
        references: The counts.
        unresolved: The list.
        console: Where to.
        ending: What is left out at the end of files' names.
    """
    if unresolved.unwritable:
        console.print(Text(unresolved.unwritable, style=palette.ATTENTION), soft_wrap=True)
    if not references:
        return
    table = _table("file", "column", "refers to")
    table.add_column("not there", justify="right")
    for (file, column, target), count in sorted(references.items()):
        short = target.replace(f"{ending} ", " ", 1) if ending else target
        table.add_row(file.removesuffix(ending), column, short, f"{count:,}")
    console.print()
    console.print(table)
    told = f"Each of these {sum(references.values()):,} references: {unresolved.path}"
    console.print(Text(told), soft_wrap=True)


def ending_of(done: Sequence[StepResult]) -> str:
    """Return what all files' names end in, such as `_data.csv`; it need not be read each time."""
    if len({step.file for step in done}) < 2:
        return ""
    return commonprefix([step.file[::-1] for step in done])[::-1]  # noqa: RUF071 (of letters)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def _counts(result: ImportResult) -> dict[str, int]:
    refused = result.rejected + result.broken + result.conflicts
    return {name: getattr(result, name) for name in _COUNTS} | {"rejected": refused}


def _cells(counts: dict[str, int]) -> list[Text]:
    styles = {"recorded": palette.GOOD, "unresolved": palette.ATTENTION, "rejected": palette.BAD}
    return [
        Text(f"{counts[name]:,}", style=styles.get(name, "") if counts[name] else palette.QUIET)
        for name in (*_COUNTS, "rejected")
    ]
