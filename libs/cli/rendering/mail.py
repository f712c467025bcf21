"""An email as its reader finds it."""

from email.message import EmailMessage

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words

WIDEST = 100
_HEADERS = ("From", "To", "Subject")


def mail(message: EmailMessage) -> RenderableType:
    """Lays out a mail: who, to whom, what about, and its text."""
    headers = Table.grid(padding=(0, 2, 0, 0))
    for name in _HEADERS:
        style = palette.STRONG if name == "Subject" else ""
        said = Text(words.plain(str(message[name] or "")), style=style)
        headers.add_row(Text(name, style=palette.QUIET), said)
    body = message.get_body(("plain",))
    lines = body.get_content().strip().splitlines() if body else []
    return Panel(
        Group(headers, Text(), *(Text(words.plain(line)) for line in lines)),
        title=Text(" an email that came in over SMTP ", style="not dim"),
        title_align="left",
        border_style=palette.QUIET,
        box=box.ROUNDED,
        padding=(0, 2),
        width=WIDEST,
    )
