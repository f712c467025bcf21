"""What the parts of a page share: tables, times and colours."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli.pages.markup import Markup, joined, tag
from libs.cli.rendering import words


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Returns a table.

    Args:
        heads: What stands above the columns.
        rows: The cells of each row; what is no Markup is escaped.
    """
    head = tag("thead", tag("tr", *(tag("th", one) for one in heads)))
    body = [joined(tag("tr", *(tag("td", one) for one in row)), Markup("\n")) for row in rows]
    return joined(tag("table", head, tag("tbody", *body)), Markup("\n"))


def when(stamp: Timestamp, now: datetime) -> str:
    """Returns a time with its date, such as `3 Nov 2026 17:00`, in the time zone of `now`."""
    moment = words.local(stamp, now.tzinfo)
    return f"{moment.day} {moment:%b} {moment.year} {moment:%H:%M}"


def styles(style: str) -> str:
    """Returns a terminal's style as classes of the page."""
    return " ".join(f"s-{word}" for word in style.split())
