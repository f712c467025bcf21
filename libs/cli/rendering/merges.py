"""What came of a decision about who is who, and what may be decided."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from libs.cli.rendering.links import link_table
from libs.cli.rendering.people import WIDEST, listed, sheet
from touchline.profile.v1 import identities_pb2 as identities
from touchline.profile.v1 import profile_pb2 as profiles
from touchline.profile.v1 import profile_service_pb2 as api

_MOST_IDENTITIES = 8


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person decided.

    Attributes:
        done: In words, such as `merged: they are one person`.
        before: The profiles that there were.
        result: What came of it.
        steps: What can be done next: a command, and what for.
    """

    done: str
    before: Sequence[profiles.Profile]
    result: api.DecisionResult
    steps: Sequence[tuple[str, str]] = ()


def decided(one: Decided, names: Mapping[str, str]) -> RenderableType:
    """Lays out what came of a decision: the profiles before and after, and the next step.

    Args:
        one: The decision.
        names: What customers are called now, by profile id.
    """
    table = sheet("", "customer", "identities", "version", "profile")
    for label, profile in zip(("before", *[""] * len(one.before)), one.before, strict=False):
        table.add_row(
            Text(label, style=palette.QUIET),
            Text(terms.profile_name(profile) or "Customer"),
            listed(profile.identities[:_MOST_IDENTITIES], len(profile.identities)),
            Text(f"{profile.version:,}"),
            Text(profile.profile_id, style=palette.QUIET),
        )
    table.add_section()
    after = one.result.profiles
    for label, side in zip(("after", *[""] * len(after)), after, strict=False):
        table.add_row(Text(label, style=palette.QUIET), *_side(side, names))
    done = Text(f"{palette.KEPT} {one.done}", style=f"bold {palette.GOOD}")
    event = f"decision {one.result.event_id} · position {one.result.position:,}"
    parts: list[RenderableType] = [Text(), done, table, Text(event, style=palette.QUIET)]
    for command, meaning in one.steps:
        parts += [Text(command), Text(f"  {meaning}", style=palette.QUIET)]
    return Bounded(Group(*parts), WIDEST)


def suggestions(
    open_ones: Sequence[identities.MergeSuggestion],
    names: Mapping[str, str],
    *,
    now: datetime,
    more: bool = False,
) -> RenderableType:
    """Lays out profiles that may be one person, with what links them.

    Args:
        open_ones: The suggestions, the strongest evidence first.
        names: What customers are called, by profile id.
        now: The present, in the reader's time zone.
        more: Whether there are more than these.
    """
    if not open_ones:
        return Text(f"{palette.KEPT} nothing is suggested", style=palette.GOOD)
    parts: list[RenderableType] = [Text()]
    for one in open_ones:
        parts += [*_suggestion(one, names, now), Text()]
    if more:
        parts.append(Text("and more: raise --limit, or decide these first", style=palette.QUIET))
    steps = "touchline suggestions accept ID --because WHY    they are one person\n"
    steps += "touchline suggestions reject ID --because WHY    they are two, whatever links them"
    parts.append(Text(steps, style=palette.QUIET))
    return Bounded(Group(*parts), WIDEST)


def _suggestion(
    one: identities.MergeSuggestion, names: Mapping[str, str], now: datetime
) -> Iterator[RenderableType]:
    title = Text(f"{palette.SIGNAL} {one.suggestion_id}", style=f"bold {palette.ATTENTION}")
    yield Rule(title, align="left", style=palette.QUIET)
    table = sheet("customer", "identities", "version", "profile")
    for side in (one.left, one.right):
        table.add_row(*_side(side, names))
    yield table
    yield link_table(one.links, now=now)
    if more := one.link_count - len(one.links):
        yield Text(f"and {words.count(more, 'more link')}", style=palette.QUIET)


def _side(side: identities.SuggestedProfile, names: Mapping[str, str]) -> Iterator[Text]:
    yield Text(names.get(side.profile_id) or "Customer", style=palette.STRONG)
    yield listed(side.identities[:_MOST_IDENTITIES], side.identity_count)
    yield Text(f"{side.version:,}")
    yield Text(side.profile_id, style=palette.QUIET)
