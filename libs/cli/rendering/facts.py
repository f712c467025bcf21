"""What each sort of event is in words."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from libs.cli.rendering import custom, decisions, palette, places, terms, words
from libs.cli.rendering.lines import Line, Surroundings, actor, answers, by_company, quiet
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.profile.v1 import profile_pb2 as profiles


def describe(entry: profiles.TimelineEntry, around: Surroundings) -> Line:
    """Says in words what one entry is."""
    if entry.erased:
        was = terms.SORTS.get(entry.type, "an event")
        return Line(
            palette.ERASED,
            palette.QUIET,
            "erased",
            headline="Erased at the customer's wish",
            headline_style=palette.QUIET,
            details=((f"was {was}", palette.QUIET),),
        )
    line = _line(entry.event, around)
    if entry.event.event_id in around.retracted:
        marked = (("retracted", palette.ATTENTION), *line.details)
        line = replace(line, style=palette.QUIET, headline_style="dim strike", details=marked)
    return line


def _line(event: ev.Event, around: Surroundings) -> Line:
    name = event.WhichOneof("fact")
    if name is None:
        unknown = "An event of a kind this program does not know"
        return Line("?", palette.QUIET, "unknown", headline=unknown)
    line = _DESCRIBED[name](event, around)
    return replace(line, who=line.who or actor(event, around))


def _interaction(event: ev.Event, around: Surroundings) -> Line:
    fact = event.interaction
    label = words.CHANNELS.get(fact.channel, "") or "contact"
    if fact.channel == facts.CHANNEL_SOCIAL and fact.network:
        label = words.clip(words.plain(fact.network), 10)
    public = fact.visibility == facts.VISIBILITY_PUBLIC
    others = ", ".join(words.plain(other) for other in fact.participants)
    symbol, style, whom = _DIRECTIONS[fact.direction]
    if fact.direction == facts.DIRECTION_OUTBOUND:
        others = others or around.name
    mark = ("public", palette.STRONG) if public else ("private", palette.QUIET)
    return Line(
        symbol,
        style,
        label,
        whom="the public" if public else others or whom,
        headline=words.plain(fact.title),
        details=(
            *((mark,) if public or fact.channel in _OPEN_CHANNELS else ()),
            *quiet(
                words.duration(fact.duration_seconds) if fact.duration_seconds else "",
                words.plain(fact.intent),
                answers(fact.in_reply_to, around),
                words.plain(event.context.location.name),
            ),
        ),
        text=words.plain(fact.text),
    )


def _community(event: ev.Event, around: Surroundings) -> Line:
    fact = event.community_posted
    company = by_company(event)
    return Line(
        palette.SAID_BY_COMPANY if company else palette.SAID_BY_CUSTOMER,
        palette.COMPANY if company else palette.CUSTOMER,
        "community",
        whom=words.plain(fact.community),
        headline=words.plain(fact.title),
        details=(("public", palette.STRONG), *quiet(answers(fact.in_reply_to, around))),
        text=words.plain(fact.text),
    )


def _order(event: ev.Event, around: Surroundings) -> Line:
    fact = event.order_changed
    state = terms.ORDER_STATES[fact.status]
    due = words.local(fact.promised_at, around.now.tzinfo)
    lost = fact.status in (facts.ORDER_STATUS_CANCELLED, facts.ORDER_STATUS_RETURNED)
    return Line(
        palette.ORDER,
        palette.COMPANY if by_company(event) else palette.CUSTOMER,
        "order",
        whom=around.name if by_company(event) else words.plain(event.source),
        headline=f"Order {words.plain(fact.order_id)} {state}",
        headline_style=f"{palette.STRONG} {palette.ATTENTION}" if lost else palette.STRONG,
        details=(
            *(((words.money(fact.amount), palette.STRONG),) if fact.HasField("amount") else ()),
            *quiet(
                f"due {around.when(due)}" if fact.HasField("promised_at") else "",
            ),
        ),
        text=terms.items(fact.items),
    )


def _use(event: ev.Event, _: Surroundings) -> Line:
    fact = event.product_used
    lasted = words.duration(fact.duration_seconds) if fact.duration_seconds else ""
    return Line(
        palette.USE,
        palette.CUSTOMER,
        "use",
        headline=f"Used {words.plain(fact.product)}",
        headline_style="",
        details=quiet(words.plain(fact.feature), lasted),
    )


def _case(event: ev.Event, around: Surroundings) -> Line:
    fact = event.case_changed
    done = fact.status in (facts.CASE_STATUS_SOLVED, facts.CASE_STATUS_CLOSED)
    return Line(
        palette.CASE,
        palette.COMPANY if done else palette.ATTENTION,
        "case",
        whom=around.name if by_company(event) else "",
        headline=f"Case {words.plain(fact.case_id)} {terms.CASE_STATES[fact.status]}",
        details=quiet(f"priority {words.plain(fact.priority)}" if fact.priority else ""),
        text=words.plain(fact.subject),
    )


def _campaign(event: ev.Event, around: Surroundings) -> Line:
    fact = event.campaign_touched
    sent = fact.action == facts.CAMPAIGN_ACTION_SENT
    return Line(
        palette.SAID_BY_COMPANY if sent else palette.SAID_BY_CUSTOMER,
        palette.COMPANY if sent else palette.CUSTOMER,
        "campaign",
        who=words.plain(event.actor.reference or event.source) if sent else around.name,
        whom=around.name if sent else words.plain(event.source),
        headline=f"“{words.plain(fact.campaign)}” {terms.CAMPAIGN_ACTIONS[fact.action]}",
        details=quiet(f"by {by}" if (by := words.CHANNELS.get(fact.channel, "")) else ""),
    )


def _consent(event: ev.Event, _: Surroundings) -> Line:
    fact = event.consent_changed
    granted = fact.status == facts.CONSENT_STATUS_GRANTED
    channel = words.CHANNELS.get(fact.channel, "")
    by = f" by {channel}" if channel else ""
    verb = "Allows" if granted else "No longer allows"
    return Line(
        palette.SAID_BY_CUSTOMER,
        palette.CUSTOMER,
        "consent",
        whom=words.plain(event.source),
        headline=f"{verb} {words.plain(fact.purpose)}{by}",
        headline_style=palette.STRONG if granted else f"{palette.STRONG} {palette.ATTENTION}",
        text=f"Proof: {words.plain(fact.proof)}" if fact.proof else "",
    )


def _preference(event: ev.Event, _: Surroundings) -> Line:
    fact = event.preference_changed
    verb = _PREFERENCES.get(fact.status, "Said something about")
    by = words.CHANNELS.get(fact.channel, "") or "every channel"
    about = f" for {words.plain(fact.purpose)}" if fact.purpose else ""
    return Line(
        palette.SAID_BY_CUSTOMER,
        palette.CUSTOMER,
        "preference",
        whom=words.plain(event.source),
        headline=f"{verb} {by}{about}",
        text=words.plain(fact.note),
    )


def _traits(event: ev.Event, _: Surroundings) -> Line:
    traits = sorted(event.traits_observed.traits.items(), key=lambda one: (one[0] != "name", one))
    known = [f"{words.human(name)}: {words.plain(value) or 'no longer'}" for name, value in traits]
    linked = [terms.identity(one) for one in event.identities]
    return Line(
        palette.LEARNED,
        palette.COMPANY,
        "learned",
        headline=" · ".join(known),
        headline_style="",
        text=f"One person: {' + '.join(linked)}" if len(linked) > 1 else "",
    )


def _note(event: ev.Event, _: Surroundings) -> Line:
    text = words.plain(event.note_added.text)
    details = quiet("internal")
    return Line(palette.NOTE, palette.COMPANY, "note", details=details, text=text)


def _signal(event: ev.Event, _: Surroundings) -> Line:
    fact = event.signal_observed
    return Line(
        palette.SIGNAL,
        palette.ATTENTION,
        "signal",
        headline=words.human(fact.kind),
        headline_style=f"{palette.STRONG} {palette.ATTENTION}",
        text=words.plain(fact.text),
    )


def _promised(event: ev.Event, around: Surroundings) -> Line:
    fact = event.expectation_set
    due = words.local(fact.due_at, around.now.tzinfo)
    end = around.ends.get(fact.expectation_id)
    overdue = end is None and due < around.now
    _, style, word = terms.OUTCOMES.get(end or 0, (palette.OPEN, palette.COMPANY, ""))
    ended = (("overdue", palette.ATTENTION),) if overdue else (((word, style),) if word else ())
    return Line(
        palette.OPEN,
        palette.ATTENTION if overdue else palette.COMPANY,
        "promise",
        whom=around.name,
        headline=words.plain(fact.promise),
        details=(
            (f"due {around.when(due)}", ""),
            *ended,
            *quiet(_kept_by(fact.team), _set_by(fact.rules)),
        ),
    )


def _resolved(event: ev.Event, around: Surroundings) -> Line:
    fact = event.expectation_resolved
    symbol, style, word = terms.OUTCOMES.get(fact.outcome, (palette.OPEN, palette.COMPANY, "ended"))
    promise = around.promises.get(fact.expectation_id, "") or words.plain(fact.promise)
    due = words.local(fact.due_at, around.now.tzinfo)
    return Line(
        symbol,
        style,
        "promise",
        whom=around.name,
        headline=f"Promise {word}: {promise or words.plain(fact.expectation_id)}",
        headline_style=f"{palette.STRONG} {style}",
        details=quiet(
            f"now due {around.when(due)}" if fact.HasField("due_at") else "",
            _kept_by(fact.team),
        ),
        text=words.plain(fact.reason),
    )


def _kept_by(team: str) -> str:
    return f"by {words.plain(team)}" if team else ""


def _set_by(rules: Sequence[str]) -> str:
    return f"rule {words.plain(rules[-1])}" if rules else ""


def _retraction(event: ev.Event, around: Surroundings) -> Line:
    fact = event.event_retracted
    headline = "An earlier entry no longer counts"
    details: tuple[tuple[str, str], ...] = ()
    if first := around.events.get(fact.event_id):
        line = _line(first, around)
        moment = words.local(first.occurred_at, around.now.tzinfo)
        headline = f"No longer counts: {line.headline or line.label}"
        details = quiet(f"of {around.when(moment)}")
    return Line(
        palette.RETRACTED,
        palette.ATTENTION,
        "retracted",
        headline=headline,
        details=details,
        text=words.plain(fact.reason),
    )


_OPEN_CHANNELS = (facts.CHANNEL_SOCIAL, facts.CHANNEL_COMMUNITY, facts.CHANNEL_WEB)
_DIRECTIONS = {
    facts.DIRECTION_UNSPECIFIED: (palette.SAID_BY_CUSTOMER, palette.COMPANY, ""),
    facts.DIRECTION_INBOUND: (palette.SAID_BY_CUSTOMER, palette.CUSTOMER, "us"),
    facts.DIRECTION_OUTBOUND: (palette.SAID_BY_COMPANY, palette.COMPANY, ""),
    facts.DIRECTION_INTERNAL: (palette.WITHIN_COMPANY, palette.QUIET, "colleagues"),
    facts.DIRECTION_PEER: (palette.BETWEEN_CUSTOMERS, palette.CUSTOMER, "customers"),
}
_PREFERENCES = {
    facts.PREFERENCE_STATUS_PREFERRED: "Prefers",
    facts.PREFERENCE_STATUS_ACCEPTED: "Has nothing against",
    facts.PREFERENCE_STATUS_AVOIDED: "Would rather not be reached by",
}
_DESCRIBED: dict[str, Callable[[ev.Event, Surroundings], Line]] = {
    "interaction": _interaction,
    "community_posted": _community,
    "order_changed": _order,
    "product_used": _use,
    "case_changed": _case,
    "campaign_touched": _campaign,
    "consent_changed": _consent,
    "preference_changed": _preference,
    "identity_decided": decisions.who_is_who,
    "traits_observed": _traits,
    "note_added": _note,
    "signal_observed": _signal,
    "expectation_set": _promised,
    "expectation_resolved": _resolved,
    "event_retracted": _retraction,
    "checked_in": places.checked_in,
    "payment_attempted": places.payment,
    "custom_event": custom.event,
    "score_crossed": decisions.crossed,
    "notification_decided": decisions.decided,
    "delivery_attempted": decisions.attempted,
    "notification_read": decisions.read,
}
