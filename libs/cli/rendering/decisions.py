"""What Touchline decided about a customer, in words: crossings, notifications and deliveries."""

from libs.cli.rendering import palette, words
from libs.cli.rendering.lines import Line, Surroundings, quiet
from touchline.events.v1 import decisions_pb2 as decisions
from touchline.events.v1 import event_pb2 as ev


def who_is_who(event: ev.Event, _: Surroundings) -> Line:
    """Says what a person decided about who the customer is, and why."""
    fact = event.identity_decided
    decision = fact.decision
    sides = [f"{len(keys):,}" for keys in (decision.left_keys, decision.right_keys) if keys]
    return Line(
        palette.IDENTITY,
        palette.COMPANY,
        "identity",
        headline=_WHO_IS_WHO.get(decision.kind, "Decided who is who"),
        details=quiet(f"{' and '.join(sides)} identities" if sides else ""),
        text=words.plain(fact.reason),
    )


def crossed(event: ev.Event, _: Surroundings) -> Line:
    """Says from which level to which a score passed."""
    fact = event.score_crossed
    way = "rose" if fact.rising else "fell"
    levels = [words.plain(level) or "no level" for level in (fact.from_level, fact.to_level)]
    return Line(
        palette.LEVEL,
        palette.GOOD if fact.rising else palette.ATTENTION,
        "score",
        headline=f"Score {way} to {fact.score:,.1f}: {levels[0]} {palette.ARROW} {levels[1]}",
        details=quiet(f"model {words.plain(fact.model)} v{fact.model_version}"),
    )


def decided(event: ev.Event, around: Surroundings) -> Line:
    """Says whom a rule tells what and why, and what each channel makes of it."""
    fact = event.notification_decided
    task = fact.kind == decisions.NOTIFICATION_KIND_TASK
    considered = (
        f"{CHANNELS.get(one.channel, '')} {_VERDICTS.get(one.verdict, '')}".strip()
        for one in fact.considered
    )
    reason = words.plain(fact.reason)
    text = words.plain(fact.text)
    return Line(
        palette.TOLD,
        palette.ATTENTION,
        "task" if task else "alert",
        whom=_recipient(fact.recipient, around),
        headline=words.plain(fact.title),
        details=quiet(f"rule {words.plain(fact.rule)} v{fact.rule_version}", *considered),
        text=" ".join(dict.fromkeys(part for part in (text, reason) if part)),
    )


def attempted(event: ev.Event, around: Surroundings) -> Line:
    """Says what became of a delivery, and of which notification if it is among the entries."""
    fact = event.delivery_attempted
    symbol, style, word = DELIVERIES.get(fact.outcome, (palette.OPEN, palette.COMPANY, "tried"))
    retry = words.local(fact.retry_at, around.now.tzinfo)
    return Line(
        symbol,
        style,
        "delivery",
        whom=_told(fact.notification_id, around),
        headline=words.human(f"{CHANNELS.get(fact.channel, '')} {word}".strip()),
        headline_style=f"{palette.STRONG} {style}",
        details=quiet(
            _title(fact.notification_id, around),
            f"attempt {fact.attempt}" if fact.attempt > 1 else "",
            f"again {around.when(retry)}" if fact.HasField("retry_at") else "",
            "perhaps the second time" if fact.possibly_repeated else "",
        ),
        text=words.plain(fact.reason),
    )


def read(event: ev.Event, around: Surroundings) -> Line:
    """Says who read which notification."""
    fact = event.notification_read
    reader = words.plain(fact.reader) or _told(fact.notification_id, around)
    title = _title(fact.notification_id, around)
    return Line(
        palette.KEPT,
        palette.QUIET,
        "read",
        who=reader,
        headline=f"Read: {title}" if title else "Read a notification",
        headline_style="",
    )


def _recipient(recipient: decisions.NotificationRecipient, around: Surroundings) -> str:
    if recipient.customer:
        return around.name
    return words.plain(recipient.reference)


def _told(notification_id: str, around: Surroundings) -> str:
    first = around.events.get(notification_id)
    return _recipient(first.notification_decided.recipient, around) if first else ""


def _title(notification_id: str, around: Surroundings) -> str:
    first = around.events.get(notification_id)
    return words.plain(first.notification_decided.title) if first else ""


_WHO_IS_WHO = {
    decisions.IDENTITY_DECISION_KIND_MERGED: "Merged: two profiles are one person",
    decisions.IDENTITY_DECISION_KIND_UNMERGED: "Taken apart: one profile is two persons",
    decisions.IDENTITY_DECISION_KIND_DETACHED: "Detached: an identity is somebody else's",
    decisions.IDENTITY_DECISION_KIND_SUGGESTION_REJECTED: "Kept apart: a suggestion was wrong",
}
CHANNELS = {
    decisions.NOTIFICATION_CHANNEL_INBOX: "inbox",
    decisions.NOTIFICATION_CHANNEL_EMAIL: "email",
    decisions.NOTIFICATION_CHANNEL_WEBHOOK: "webhook",
}
DELIVERIES = {
    decisions.DELIVERY_OUTCOME_SENT: (palette.KEPT, palette.GOOD, "sent"),
    decisions.DELIVERY_OUTCOME_FAILED: (palette.BROKEN, palette.BAD, "failed"),
    decisions.DELIVERY_OUTCOME_SKIPPED: (palette.WITHDRAWN, palette.QUIET, "skipped"),
    decisions.DELIVERY_OUTCOME_DEFERRED: (palette.MOVED, palette.ATTENTION, "deferred"),
    decisions.DELIVERY_OUTCOME_SUPPRESSED: (palette.WITHDRAWN, palette.ATTENTION, "suppressed"),
}
_VERDICTS = {
    decisions.CHANNEL_VERDICT_CHOSEN: "chosen",
    decisions.CHANNEL_VERDICT_DEFERRED: "deferred",
    decisions.CHANNEL_VERDICT_SKIPPED: "skipped",
    decisions.CHANNEL_VERDICT_SUPPRESSED: "suppressed",
}
