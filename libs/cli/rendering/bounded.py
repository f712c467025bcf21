"""What no line may make too long to read: a body of limited width, with a margin."""

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.padding import Padding


@dataclass(frozen=True, slots=True)
class Bounded:
    """A body that is laid out at most so wide, one cell in from the edge.

    Attributes:
        body: What to show.
        widest: The most columns that it takes, its margins included.
    """

    body: RenderableType
    widest: int

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, self.widest)
        yield from console.render(
            Padding(self.body, (0, 1), expand=False), options.update_width(width)
        )
