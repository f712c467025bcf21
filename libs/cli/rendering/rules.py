"""Rules: what they look at, when they act, and what they do."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.cli.rendering.decisions import CHANNELS
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1 import filter_pb2 as filters
from touchline.notification.v1 import notification_pb2 as notification


def rules(listed: Sequence[notification.Rule], *, now: datetime) -> RenderableType:
    """Lays out rules.

    Args:
        listed: The rules, the latest version of each.
        now: The present, in the reader's time zone.
    """
    if not listed:
        return Text("No rule is published: nobody is told anything.", style=palette.QUIET)
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    table.add_column("rule", no_wrap=True)
    table.add_column("looks at, and when it acts", ratio=1)
    table.add_column("what it does", ratio=1)
    for one in listed:
        published = words.when(words.local(one.published_at, now.tzinfo), now)
        version = Text(f"v{one.version} · {published}", style=palette.QUIET)
        off = one.definition.disabled
        name = Text(words.plain(one.definition.name), "strike" if off else palette.STRONG)
        state = [Text("off", style=palette.ATTENTION)] if off else []
        table.add_row(
            Group(
                name, version, Text(f"by {words.plain(one.published_by)}", palette.QUIET), *state
            ),
            Group(*_when(one.definition)),
            Group(*_what(one.definition)),
        )
        table.add_section()
    return table


def looks_at(on: filters.EventFilter) -> str:
    """Returns which events a filter lets through, in words."""
    parts = (
        [words.named(ev.EventType.DESCRIPTOR, one, "EVENT_TYPE_") for one in on.types],
        [words.CHANNELS.get(one, "") for one in on.channels],
        [words.named(facts.Direction.DESCRIPTOR, one, "DIRECTION_") for one in on.directions],
        [words.named(facts.Visibility.DESCRIPTOR, one, "VISIBILITY_") for one in on.visibilities],
    )
    return " · ".join(" or ".join(part) for part in parts if part)


def _when(rule: notification.RuleDefinition) -> Iterator[Text]:
    yield Text(looks_at(rule.on))
    if rule.window.ToSeconds():
        yield Text(f"with the {words.duration(rule.window.ToSeconds())} before", palette.QUIET)
    for binding in rule.let:
        yield Text(
            f"{words.plain(binding.name)} = {words.plain(binding.expression)}", palette.QUIET
        )
    if rule.condition:
        yield Text(words.plain(rule.condition), style=palette.CUSTOMER)


def _what(rule: notification.RuleDefinition) -> Iterator[Text]:
    for one in rule.notices:
        channels = ", ".join(CHANNELS.get(channel, "?") for channel in one.channels) or "inbox"
        said = one.reference or f"{{{{ {one.expression} }}}}"
        to = "the customer" if one.customer else words.plain(said)
        yield Text.assemble("tells ", (to, palette.STRONG), (f" by {channels}", palette.QUIET))
        yield Text(f"“{words.plain(one.title)}”", style=palette.QUIET)
    if rule.HasField("expect"):
        within = words.duration(rule.expect.within.ToSeconds())
        business = "business " if rule.expect.HasField("hours") else ""
        yield Text.assemble(
            "expects of ",
            (words.plain(rule.expect.team), palette.STRONG),
            (f" within {within} of {business}time" if business else f" within {within}", ""),
        )
        yield Text(f"“{words.plain(rule.expect.promise)}”", style=palette.QUIET)
    if not rule.notices and not rule.HasField("expect"):
        yield Text("nothing", style=palette.QUIET)
