"""What `up` says when everything runs."""

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette

NEXT = (
    ("touchline demo", "tell one customer's story"),
    ("touchline status", "head, lag, queue, rejected"),
    ("touchline tail", "watch events arrive"),
    ("touchline verify", "prove that nothing is missing"),
)


def started(endpoints: Mapping[str, str], home: str) -> RenderableType:
    """Lays out where everything is, how to stop it and what to try next.

    Args:
        endpoints: The addresses of services and servers by name, without passwords.
        home: Where the data is kept.
    """
    addresses = _pairs(endpoints, palette.STRONG)
    addresses.add_row("data", Text(home, overflow="fold"))
    body = Group(
        addresses,
        Text(),
        Text("Ctrl-C drains and stops everything.", style=palette.QUIET),
        Text(),
        Text("In another terminal", style=palette.STRONG),
        _pairs(dict(NEXT), palette.CUSTOMER),
    )
    title = Text.assemble((f" {palette.KEPT} Touchline is up ", f"bold not dim {palette.GOOD}"))
    return Panel(
        body,
        title=title,
        title_align="left",
        box=box.ROUNDED,
        border_style=palette.QUIET,
        padding=(1, 2),
        expand=False,
    )


def _pairs(pairs: Mapping[str, str], style: str) -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    for name, said in pairs.items():
        grid.add_row(Text(name, style=style), Text(said, overflow="fold"))
    return grid
