"""The line under an answer that lacks events of its customer."""

from collections.abc import Collection
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.cli.rendering.bounded import Bounded

WIDEST = 120
_WAY_OUT = "touchline parked"


@dataclass(frozen=True, slots=True)
class _Warning:
    text: Text

    def __rich_console__(self, _: Console, options: ConsoleOptions) -> RenderResult:
        together = Text.assemble(self.text, (" · ", palette.QUIET), _WAY_OUT)
        if together.cell_len <= options.max_width:
            yield together
        else:
            yield from (self.text, Text(f"  {_WAY_OUT}"))


def degraded(projections: Collection[str], *, several: bool = False) -> RenderableType:
    """Says that the answer above lacks events that projections have parked.

    Args:
        projections: Those, as the answer names them.
        several: Whether the answer is about several customers, of whom some are marked.
    """
    whose = " of these customers" if several else ""
    named = ", ".join(words.plain(name) for name in sorted(set(projections)))
    text = f"{palette.INCOMPLETE} incomplete: some events{whose} are not folded ({named})"
    return Bounded(_Warning(Text.assemble((text, palette.ATTENTION))), WIDEST)
