"""Why somebody was told something, or nobody: the event, the rules, the channels, the attempts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from libs.cli.rendering.bounded import Bounded
from libs.cli.rendering.decisions import CHANNELS, DELIVERIES
from libs.cli.rendering.inbox import kind
from libs.cli.rendering.lines import Line
from touchline.events.v1 import decisions_pb2 as decisions
from touchline.notification.v1 import notification_pb2 as notification
from touchline.notification.v1 import notification_service_pb2 as notifications

WIDEST = 110
_WORD = 15


def why(
    explained: notifications.ExplainNotificationResponse, line: Line, *, now: datetime
) -> RenderableType:
    """Lays out what happened, what each rule made of it, and who was told over which channel.

    Args:
        explained: The explanation.
        line: The event in words.
        now: The present, in the reader's time zone.
    """
    return _Why(explained, line, now).laid_out()


@dataclass(frozen=True, slots=True)
class _Why:
    explained: notifications.ExplainNotificationResponse
    line: Line
    now: datetime

    def laid_out(self) -> RenderableType:
        told = [part for one in self.explained.notifications for part in self._told(one)]
        if not told:
            told = [_rows([(Text(palette.DASH, palette.QUIET), Text("Nobody was told."))])]
        body = Group(
            Text(),
            _title("What happened"),
            *self._event(),
            Text(),
            _title("What the rules make of it"),
            *self._rules(),
            Text(),
            _title("Who was told"),
            *told,
            Text(),
        )
        return Bounded(body, WIDEST)

    def _event(self) -> Iterator[RenderableType]:
        event, line = self.explained.event, self.line
        moment = words.when(words.local(event.occurred_at, self.now.tzinfo), self.now)
        head = Text(line.headline or line.text, style=palette.STRONG)
        label = Text(f"{line.symbol} {line.label}", style=line.style)
        remark = " · ".join(part for part in (moment, line.who, event.event_id) if part)
        yield _rows([(label, head), *_texts(line.text if line.headline else "")])
        yield _rows([(Text(), Text(remark, style=palette.QUIET))])

    def _rules(self) -> Iterator[RenderableType]:
        rows: list[tuple[Text, Text]] = []
        for one in self.explained.rules:
            symbol, style, word = _RULES.get(one.verdict, ("?", palette.QUIET, "unknown"))
            name = Text.assemble(
                (words.plain(one.rule), palette.STRONG),
                (f"  v{one.rule_version}", palette.QUIET),
            )
            rows.append((Text(f"{symbol} {word}", style=style), name))
            rows += _texts(one.reason)
            if one.condition and words.plain(one.condition) not in words.plain(one.reason):
                rows.append((Text(), Text(words.plain(one.condition), style=palette.CUSTOMER)))
            if one.values:
                said = (f"{words.plain(v.name)} = {words.plain(v.value)}" for v in one.values)
                rows.append((Text(), Text(" · ".join(said), style=palette.QUIET)))
        none = Text("No rule looks at such an event.", style=palette.QUIET)
        yield _rows(rows or [(Text(palette.DASH, palette.QUIET), none)])

    def _told(self, one: notification.NotificationExplanation) -> Iterator[RenderableType]:
        told = one.notification
        symbol, word = kind(told.kind)
        title = words.plain(told.title) or "Erased at the customer's wish"
        to = "the customer" if told.recipient.customer else words.plain(told.recipient.reference)
        decided = words.when(words.local(one.decided_at, self.now.tzinfo), self.now)
        remark = Text.assemble((to, palette.STRONG), (f" · decided {decided}", palette.QUIET))
        remark.append(f" · rule {' → '.join(told.rules) or told.rule}", palette.QUIET)
        if one.HasField("read_at"):
            read = words.when(words.local(one.read_at, self.now.tzinfo), self.now)
            remark.append(f" · read {read}", palette.GOOD)
        rows = [
            (Text(f"{symbol} {word}", style=palette.ATTENTION), Text(title, style=palette.STRONG)),
            (Text(), remark),
            *(row for considered in told.considered for row in self._channel(one, considered)),
        ]
        yield _rows(rows)

    def _channel(
        self, one: notification.NotificationExplanation, considered: decisions.ConsideredChannel
    ) -> Iterator[tuple[Text, Text]]:
        channel = CHANNELS.get(considered.channel, "?")
        symbol, style, word = _VERDICTS.get(considered.verdict, ("?", palette.QUIET, ""))
        said = Text.assemble(f"{channel:<9}", (f"{symbol} {word}", style))
        said.append(f"  {words.plain(considered.reason)}" if considered.reason else "", "dim")
        if considered.HasField("not_before"):
            later = words.when(words.local(considered.not_before, self.now.tzinfo), self.now)
            said.append(f"  from {later}", palette.QUIET)
        yield Text(), said
        attempts = [each for each in one.attempts if each.channel == considered.channel]
        for each in attempts:
            yield Text(), self._attempt(each)
        waiting = (notification.DELIVERY_STATE_WAITING, notification.DELIVERY_STATE_CLAIMED)
        for delivery in one.deliveries:
            if delivery.channel == considered.channel and delivery.state in waiting:
                due = words.ahead(words.local(delivery.due_at, self.now.tzinfo), self.now)
                yield Text(), Text(f"{'':9}{palette.MOVED} waits, due {due}", palette.ATTENTION)

    def _attempt(self, each: decisions.DeliveryAttempted) -> Text:
        symbol, style, word = DELIVERIES.get(each.outcome, ("?", palette.QUIET, "tried"))
        text = Text.assemble(f"{'':9}", (f"{symbol} {word}", style))
        remarks = [f"attempt {each.attempt}", words.plain(each.reason)]
        if each.HasField("retry_at"):
            again = words.ahead(words.local(each.retry_at, self.now.tzinfo), self.now)
            remarks.append(f"again {again}")
        if each.possibly_repeated:
            remarks.append("perhaps the second time")
        return text.append("  " + " · ".join(part for part in remarks if part), palette.QUIET)


def _title(text: str) -> Text:
    return Text(text, style=palette.STRONG)


def _texts(text: str) -> Sequence[tuple[Text, Text]]:
    return [(Text(), Text(words.plain(text)))] if text else []


def _rows(rows: Sequence[tuple[Text, Text]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=_WORD)
    grid.add_column(ratio=1, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid


_RULES: Mapping[int, tuple[str, str, str]] = {
    notification.RULE_VERDICT_MATCHED: (palette.KEPT, palette.GOOD, "matched"),
    notification.RULE_VERDICT_NOT_MATCHED: (palette.DASH, palette.QUIET, "not matched"),
    notification.RULE_VERDICT_NOT_CONCERNED: (palette.DASH, palette.QUIET, "not concerned"),
    notification.RULE_VERDICT_PAST: (palette.DASH, palette.ATTENTION, "past"),
    notification.RULE_VERDICT_STOPPED: (palette.DASH, palette.ATTENTION, "stopped"),
    notification.RULE_VERDICT_FAILED: (palette.BROKEN, palette.BAD, "failed"),
}
_VERDICTS: Mapping[int, tuple[str, str, str]] = {
    decisions.CHANNEL_VERDICT_CHOSEN: (palette.KEPT, palette.GOOD, "chosen"),
    decisions.CHANNEL_VERDICT_DEFERRED: (palette.MOVED, palette.ATTENTION, "deferred"),
    decisions.CHANNEL_VERDICT_SKIPPED: (palette.DASH, palette.QUIET, "skipped"),
    decisions.CHANNEL_VERDICT_SUPPRESSED: (palette.DASH, palette.ATTENTION, "suppressed"),
}
