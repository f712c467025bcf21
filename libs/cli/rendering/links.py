"""Why identities are one person, or are not: links, and what people decided."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from libs.cli.rendering.people import WIDEST, sheet
from touchline.events.v1 import decisions_pb2 as decisions
from touchline.profile.v1 import identities_pb2 as identities
from touchline.profile.v1 import profile_pb2 as profiles

RULES: Final = {
    identities.LINK_RULE_UNSPECIFIED: ("unknown", "a rule this program does not know"),
    identities.LINK_RULE_DECIDED: ("decided", "a person said that they are one"),
    identities.LINK_RULE_STRONG: ("strong", "two strong identifiers, seen together"),
    identities.LINK_RULE_SOCIAL: ("social", "a social handle, seen together"),
    identities.LINK_RULE_DEVICE: ("device", "a device, seen together"),
    identities.LINK_RULE_COOKIE: ("cookie", "a cookie, seen together"),
}
"""A rule in one word, and in a phrase."""
EFFECTS: Final = {
    identities.LINK_EFFECT_UNSPECIFIED: ("?", palette.QUIET, "unknown"),
    identities.LINK_EFFECT_JOINS: (palette.KEPT, palette.GOOD, "joins"),
    identities.LINK_EFFECT_CONFIRMS: ("=", palette.QUIET, "confirms"),
    identities.LINK_EFFECT_CLASHES: (palette.SIGNAL, palette.ATTENTION, "clashes"),
    identities.LINK_EFFECT_CUT: (palette.BROKEN, palette.BAD, "cut"),
}
VERDICTS: Final = {
    decisions.IDENTITY_DECISION_KIND_UNSPECIFIED: "decided",
    decisions.IDENTITY_DECISION_KIND_MERGED: "merged",
    decisions.IDENTITY_DECISION_KIND_UNMERGED: "taken apart",
    decisions.IDENTITY_DECISION_KIND_DETACHED: "detached",
    decisions.IDENTITY_DECISION_KIND_SUGGESTION_REJECTED: "suggestion rejected",
}
_LEGEND: Final = {
    identities.LINK_EFFECT_JOINS: "without it they would be two",
    identities.LINK_EFFECT_CONFIRMS: "they are one by others already",
    identities.LINK_EFFECT_CLASHES: "it joins nothing: two of one kind; see `suggestions`",
    identities.LINK_EFFECT_CUT: "it joins nothing: a person said that they are two",
}


def links(
    listed: Sequence[identities.IdentityLink],
    verdicts: Sequence[identities.IdentityVerdict],
    *,
    now: datetime,
    more: bool = False,
) -> RenderableType:
    """Lays out why identities are one person: each link, its rule, its effect and its event.

    Args:
        listed: The links, in the order in which they count.
        verdicts: What people decided, newest first.
        now: The present, in the reader's time zone.
        more: Whether there are more links than these.
    """
    parts: list[RenderableType] = [Text(), Text("What links them", style=palette.STRONG)]
    if listed:
        parts += [link_table(listed, now=now), *_legend(listed)]
    else:
        nothing = "nothing does"
        parts.append(Text(f"{palette.DASH} {nothing}", style=palette.QUIET))
    if more:
        parts.append(Text("and more: raise --limit", style=palette.QUIET))
    if verdicts:
        parts += [Text(), Text("What people decided", style=palette.STRONG)]
        parts.append(_verdicts(verdicts, now))
    return Bounded(Group(*parts), WIDEST)


def link_table(listed: Sequence[identities.IdentityLink], *, now: datetime) -> RenderableType:
    """Lays out links alone."""
    table = sheet("effect", "between", "rule", "since", "first told by")
    for one in listed:
        symbol, style, effect = EFFECTS[one.effect]
        table.add_row(
            Text(f"{symbol} {effect}", style=style),
            Text(f"{_name(one.left)}\n{_name(one.right)}", overflow="fold"),
            Text(RULES[one.rule][0]),
            Text(words.when(words.local(one.occurred_at, now.tzinfo), now)),
            Text.assemble(
                words.plain(one.source) or "erased",
                (f" · {words.count(one.events, 'event')} {_says(one.events)} so", palette.QUIET),
                (f"\n{words.plain(one.event_id)}", palette.QUIET),
                overflow="fold",
            ),
        )
    return table


def _verdicts(verdicts: Sequence[identities.IdentityVerdict], now: datetime) -> RenderableType:
    table = sheet("", "decision", "when", "by", "why")
    for one in verdicts:
        sides = " and ".join(f"{n:,}" for n in (one.left_identities, one.right_identities) if n)
        holds = Text(palette.WITHDRAWN, style=palette.QUIET)
        if not one.revoked:
            holds = Text(palette.KEPT, style=palette.GOOD)
        told = Text(VERDICTS.get(one.kind, "decided"))
        told.append(f"\n{sides} identities" if sides else "", style=palette.QUIET)
        told.append("\ntaken back" if one.revoked else "", style=palette.ATTENTION)
        table.add_row(
            holds,
            told,
            Text(words.when(words.local(one.decided_at, now.tzinfo), now)),
            Text(words.plain(one.decided_by), overflow="fold"),
            Text.assemble(
                words.plain(one.reason) or "erased",
                (f"\n{words.plain(one.event_id)}", palette.QUIET),
                overflow="fold",
            ),
        )
    return table


def _legend(listed: Sequence[identities.IdentityLink]) -> Iterator[Text]:
    for effect, meaning in _LEGEND.items():
        if any(one.effect == effect for one in listed):
            symbol, style, word = EFFECTS[effect]
            yield Text.assemble((f"{symbol} {word}", style), (f"  {meaning}", palette.QUIET))


def _says(events: int) -> str:
    return "says" if events == 1 else "say"


def _name(one: profiles.ProfileIdentity) -> str:
    return terms.identity(one.identity)
