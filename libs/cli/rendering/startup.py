"""What `up` says when everything runs."""

from collections.abc import Iterable, Mapping
from typing import Final

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette
from touchline.projection.v1 import projection_pb2 as projection

_BUILT_BESIDE: Final = (
    projection.GENERATION_STATE_FILLING,
    projection.GENERATION_STATE_FOLLOWING,
)
_NAMED: Final = 3
_HUNDRED: Final = 100

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


def building(service: str, projections: Iterable[projection.Projection]) -> str:
    """Says which views a service builds before it answers, and how far they are.

    Args:
        service: Its name.
        projections: All that it has.
    """
    parts = [part for one in projections for part in _share_of(one)]
    named = ", ".join(parts[:_NAMED]) + (", …" if len(parts) > _NAMED else "")
    return f"{service} builds its views anew" + (f" ({named})" if named else "")


def _share_of(one: projection.Projection) -> list[str]:
    own = [made for made in one.generations if made.fold_version == one.fold_version]
    if any(made.state == projection.GENERATION_STATE_SERVING for made in own):
        return []
    return [
        f"{one.name} {_HUNDRED * made.position // max(one.head_position, made.position, 1)} %"
        for made in own
        if made.state in _BUILT_BESIDE
    ]
