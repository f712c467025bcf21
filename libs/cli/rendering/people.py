"""Who a customer is: identities, and what is known and how."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from touchline.profile.v1 import erasure_pb2 as erasures
from touchline.profile.v1 import profile_pb2 as profiles
from touchline.profile.v1 import profile_service_pb2 as api

WIDEST: Final = 116
SHORT_ID: Final = 12
_MOST_IDENTITIES: Final = 40
_LONGEST: Final = 200


def person(
    profile: profiles.Profile, *, now: datetime, alias: str = "", as_of: datetime | None = None
) -> RenderableType:
    """Lays out who a customer is.

    Args:
        profile: The customer.
        now: The present, in the reader's time zone.
        alias: The absorbed profile's id by which the customer was asked for; empty: it was not so.
        as_of: The time as of which it is told; None: now.
    """
    parts: list[RenderableType] = [Text(), *_heading(profile, now, alias, as_of), Text()]
    parts += _identities(profile)
    if profile.attributes:
        parts += [Text(), _title("Known"), _attributes(profile.attributes, now)]
    if profile.attributes_truncated:
        parts.append(_note("the oldest observations are left out here; --history NAME has all"))
    if profile.alias_profile_ids:
        shown = ", ".join(one[:SHORT_ID] for one in profile.alias_profile_ids[:8])
        more = len(profile.alias_profile_ids) - 8
        rest = f" and {more:,} more" if more > 0 else ""
        parts += [Text(), _note(f"ids that lead here as well: {shown}{rest}")]
    return Bounded(Group(*parts), WIDEST)


def history(
    name: str, values: Sequence[erasures.AttributeValue], *, now: datetime, more: bool = False
) -> RenderableType:
    """Lays out all that was observed of an attribute, newest first.

    Args:
        name: The attribute's name; empty: those of all attributes.
        values: What was observed.
        now: The present, in the reader's time zone.
        more: Whether there are more than these.
    """
    if not values:
        what = words.plain(name) or "an attribute"
        return Text(f"{palette.DASH} {what} was never observed", style=palette.QUIET)
    table = sheet("", "value", "happened", "recorded", "from", "event")
    for one in values:
        table.add_row(
            _holds(one),
            Text.assemble(
                "" if name else (f"{words.human(one.name)}  ", palette.QUIET),
                _value(one.value),
            ),
            _moment(one.occurred_at, now),
            _moment(one.recorded_at, now),
            Text(" · ".join(_from(one.source, one.actor_reference)), style=palette.QUIET),
            Text(words.plain(one.event_id), style=palette.QUIET),
        )
    notes = [_note("and more: raise --limit")] if more else []
    return Bounded(Group(Text(), _title(words.human(name) or "All values"), table, *notes), WIDEST)


def found(
    matches: Sequence[api.FoundProfile], names: dict[str, str], *, now: datetime, more: bool = False
) -> RenderableType:
    """Lays out profiles that were found by an attribute's value.

    Args:
        matches: The profiles, each with the last observation of the value.
        names: What customers are called, by profile id.
        now: The present, in the reader's time zone.
        more: Whether there are more than these.
    """
    if not matches:
        return Text(f"{palette.DASH} nobody ever had that", style=palette.QUIET)
    table = sheet("", "customer", "value", "happened", "from", "profile")
    for one in matches:
        table.add_row(
            _holds(one.value),
            terms.customer(one.profile_id, names),
            _value(one.value.value),
            _moment(one.value.occurred_at, now),
            Text(words.plain(one.value.source), style=palette.QUIET),
            Text(one.profile_id, style=palette.QUIET),
        )
    legend = f"{palette.KEPT} it holds   {palette.WITHDRAWN} it is a former value"
    notes = [_note("and more: raise --limit")] if more else []
    return Bounded(Group(Text(), table, *notes, _note(legend)), WIDEST)


def sheet(*columns: str) -> Table:
    """Returns a table with the heads of its columns, as all about customers have it."""
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


def listed(identities: Sequence[profiles.ProfileIdentity], count: int = 0) -> Text:
    """Returns identities one below the other, and how many there are besides."""
    lines = [terms.identity(one.identity) for one in identities]
    if more := (count or len(identities)) - len(identities):
        lines.append(f"and {more:,} more")
    return Text("\n".join(lines), overflow="fold")


def _heading(
    profile: profiles.Profile, now: datetime, alias: str, as_of: datetime | None
) -> Iterator[Text]:
    title = Text(terms.profile_name(profile) or "Customer", style=palette.STRONG)
    told = [words.count(profile.event_count, "event")]
    if profile.HasField("first_contact_at"):
        first = words.local(profile.first_contact_at, now.tzinfo)
        last = words.local(profile.last_contact_at, now.tzinfo)
        told.append(f"contacts {words.span(first, last, now)}")
    yield title.append(f"  {' · '.join(told)}", style="not bold dim")
    yield _note(f"profile {profile.profile_id} · version {profile.version}")
    if as_of is not None:
        yield Text(f"as it was {words.when(as_of, now)}", style=palette.ATTENTION)
    if alias:
        text = f"{palette.ARROW} asked by {alias[:SHORT_ID]}…, an id that this profile absorbed"
        yield Text(text, style=palette.ATTENTION)
    if profile.HasField("erased_at"):
        erased = words.local(profile.erased_at, now.tzinfo)
        text = f"{palette.ERASED} erased {words.when(erased, now)}: what is left names nobody"
        yield Text(text, style=palette.ATTENTION)


def _identities(profile: profiles.Profile) -> Iterator[RenderableType]:
    count = len(profile.identities)
    yield _title("Identities", f"{count:,}")
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_column(no_wrap=True, justify="right")
    for one in profile.identities[:_MOST_IDENTITIES]:
        kind, _, value = terms.identity(one.identity).partition(" ")
        gone = not (one.identity.value or one.identity.canonical_value)
        seen = f"since position {one.first_position:,}"
        grid.add_row(
            Text(f"  {kind}", style=palette.QUIET),
            Text(value, style=palette.QUIET if gone else palette.CUSTOMER),
            Text(seen, style=palette.QUIET),
        )
    yield grid
    if more := max(0, count - _MOST_IDENTITIES):
        yield _note(f"  and {more:,} more")


def _attributes(attributes: Sequence[profiles.Attribute], now: datetime) -> Table:
    table = sheet("", "", "since", "from", "observed", "event")
    for one in sorted(attributes, key=lambda each: (each.name != "name", each.name)):
        table.add_row(
            Text(words.human(one.name), style=palette.QUIET),
            _value(one.value),
            _moment(one.occurred_at, now),
            Text(words.plain(one.source), style=palette.QUIET),
            Text(f"{one.observations:,} {palette.TIMES}" if one.observations else ""),
            Text(words.plain(one.event_id), style=palette.QUIET),
        )
    return table


def _value(value: str) -> Text:
    if not value:
        return Text("no longer", style=palette.QUIET)
    return Text(words.clip(words.plain(value), _LONGEST), style=palette.STRONG)


def _holds(one: erasures.AttributeValue) -> Text:
    if one.current:
        return Text(palette.KEPT, style=palette.GOOD)
    return Text(palette.WITHDRAWN, style=palette.QUIET)


def _from(*parts: str) -> list[str]:
    return [words.plain(part) for part in parts if part]


def _moment(stamp: Timestamp, now: datetime) -> Text:
    return Text(words.when(words.local(stamp, now.tzinfo), now))


def _title(title: str, remark: str = "") -> Text:
    text = Text(title, style=palette.STRONG)
    return text.append(f"  {remark}", style="not bold dim") if remark else text


def _note(text: str) -> Text:
    return Text(text, style=palette.QUIET, overflow="fold")
