"""What a customer allows, forbids and likes, and what decides."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from libs.cli.rendering.people import WIDEST, sheet
from touchline.events.v1 import facts_pb2 as facts
from touchline.profile.v1 import consents_pb2 as consents

State = consents.ConsentState | consents.PreferenceState
"""How a consent or a preference stands."""
CONSENTS: Final = {
    facts.CONSENT_STATUS_UNSPECIFIED: ("?", palette.QUIET, "unknown"),
    facts.CONSENT_STATUS_GRANTED: (palette.KEPT, palette.GOOD, "allowed"),
    facts.CONSENT_STATUS_WITHDRAWN: (palette.BROKEN, palette.BAD, "forbidden"),
}
PREFERENCES: Final = {
    facts.PREFERENCE_STATUS_UNSPECIFIED: ("?", palette.QUIET, "unknown"),
    facts.PREFERENCE_STATUS_PREFERRED: (palette.LEARNED, palette.GOOD, "preferred"),
    facts.PREFERENCE_STATUS_ACCEPTED: ("=", palette.COMPANY, "accepted"),
    facts.PREFERENCE_STATUS_AVOIDED: (palette.WITHDRAWN, palette.ATTENTION, "avoided"),
}


def standing(
    allowed: Sequence[consents.ConsentState],
    liked: Sequence[consents.PreferenceState],
    *,
    who: str,
    now: datetime,
    as_of: datetime | None = None,
) -> RenderableType:
    """Lays out how consents and preferences stand, and then all that was said.

    Args:
        allowed: The consents.
        liked: The preferences.
        who: What the customer is called.
        now: The present, in the reader's time zone.
        as_of: The time as of which it is told; None: now.
    """
    title = Text(who or "Customer", style=palette.STRONG)
    title.append("  what is allowed, forbidden and liked", style="not bold dim")
    parts: list[RenderableType] = [Text(), title]
    if as_of is not None:
        parts.append(Text(f"as it was {words.when(as_of, now)}", style=palette.ATTENTION))
    if not (allowed or liked):
        said = "nothing was said about consents or preferences"
        return Bounded(Group(*parts, Text(f"{palette.DASH} {said}", palette.QUIET)), WIDEST)
    table = sheet("", "", "since", "decided by what was said")
    table.columns[0].no_wrap = True
    stand: list[State] = [*allowed, *liked]
    for one in stand:
        table.add_row(*_state(one, now))
    parts += [table, Text("All that was said", style=palette.STRONG), _words(stand, now)]
    legend = f"{palette.KEPT} it counts   {palette.WITHDRAWN} something later was said"
    parts.append(Text(legend, style=palette.QUIET))
    return Bounded(Group(*parts), WIDEST)


def status_of(one: State) -> tuple[str, str, str]:
    """Returns the symbol, the colour and the word for how a consent or a preference stands."""
    if isinstance(one, consents.ConsentState):
        return CONSENTS[one.status]
    return PREFERENCES[one.status]


def status_said(word: consents.ConsentWord) -> tuple[str, str, str]:
    """Returns the symbol, the colour and the word for what was said."""
    if word.consent_status:
        return CONSENTS[word.consent_status]
    return PREFERENCES[word.preference_status]


def channel(number: facts.Channel.ValueType) -> str:
    """Returns the name of a channel; of the unspecified one, that it is every one."""
    return words.CHANNELS.get(number, "") or "every channel"


def under(word: consents.ConsentWord) -> str:
    """Returns under which identities something was said."""
    return ", ".join(terms.identity(one.identity) for one in word.identities)


def _state(one: State, now: datetime) -> Iterator[Text]:
    symbol, style, state = status_of(one)
    yield Text(f"{symbol} {state}", style=style)
    yield Text(_about(one), style=palette.STRONG)
    if not one.words:
        yield from (Text(), Text())
        return
    deciding = one.words[0]
    yield _when(deciding, now)
    told = (source(deciding), words.plain(deciding.proof))
    remark = " · ".join(part for part in told if part)
    yield Text.assemble(under(deciding), (f"\n{remark}", palette.QUIET), overflow="fold")


def _words(stand: Sequence[State], now: datetime) -> RenderableType:
    table = sheet("", "", "when", "under")
    table.columns[0].no_wrap = True
    for one in stand:
        for word in one.words:
            symbol, style = (palette.KEPT, palette.GOOD) if word.counts else _SUPERSEDED
            _, colour, state = status_said(word)
            table.add_row(
                Text.assemble((symbol, style), " ", (state, colour)),
                Text(_about(one), overflow="fold"),
                _when(word, now),
                Text.assemble(
                    under(word),
                    (f"\n{source(word)} · {word.event_id}", palette.QUIET),
                    overflow="fold",
                ),
            )
    return table


def _about(one: State) -> str:
    return f"{words.human(one.purpose) or 'Everything'} by {channel(one.channel)}"


def source(word: consents.ConsentWord) -> str:
    """Returns the system that reported something; or that it was erased, and what that means."""
    return words.plain(word.source) or "erased, so it counts as forbidden"


def _when(word: consents.ConsentWord, now: datetime) -> Text:
    return Text(words.when(words.local(word.occurred_at, now.tzinfo), now))


_SUPERSEDED: Final = (palette.WITHDRAWN, palette.QUIET)
