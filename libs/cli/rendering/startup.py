"""What `up` says when everything runs."""

from collections.abc import Mapping

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette

# They work as they stand, in this order, on an empty store too.
NEXT = (
    "import examples/contacts.csv --mapping examples/contacts.toml",
    "timeline crm:C-1001",
    "status",
)


def started(endpoints: Mapping[str, str], home: str, command: str) -> RenderableType:
    """Lays out where everything is, how to stop it and what to try next.

    What to try stands below the frame, so that a line can be copied whole.

    Args:
        endpoints: The addresses of services and servers by name, without passwords.
        home: Where the data is kept.
        command: How the reader calls `touchline`.
    """
    addresses = Table.grid(padding=(0, 3, 0, 0))
    for name, said in endpoints.items():
        addresses.add_row(Text(name, style=palette.STRONG), Text(said, overflow="fold"))
    addresses.add_row("data", Text(home, overflow="fold"))
    title = Text.assemble((f" {palette.KEPT} Touchline is up ", f"bold not dim {palette.GOOD}"))
    panel = Panel(
        addresses,
        title=title,
        title_align="left",
        box=box.ROUNDED,
        border_style=palette.QUIET,
        padding=(1, 2),
        expand=False,
    )
    return Group(
        panel,
        Text("In another terminal, in this directory:", style=palette.QUIET),
        *(Text(f"  {command} {rest}", style=palette.CUSTOMER) for rest in NEXT),
        Text("Ctrl-C drains and stops everything.", style=palette.QUIET),
    )
