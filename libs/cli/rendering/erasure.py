"""What an erasure is about to do, what it did, and how that was checked."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.erasing import BACKUPS, Certificate, Checked, stays
from libs.cli.rendering import palette, terms, words
from libs.cli.rendering.bounded import Bounded
from libs.cli.rendering.people import listed, sheet
from touchline.profile.v1.erasure_pb2 import Erased, TimeRange
from touchline.profile.v1.profile_pb2 import Profile
from touchline.projection.v1.projection_service_pb2 import ErasureCheck

WIDEST: Final = 110
_MOST_IDENTITIES: Final = 20


def about_to_erase(
    profile: Profile, occurred: TimeRange | None, within: str, *, now: datetime
) -> RenderableType:
    """Lays out what is about to be erased.

    Args:
        profile: Whose it is.
        occurred: Only what occurred in this range; None: everything.
        within: How many events are in the range; empty: see the profile.
        now: The present, in the reader's time zone.
    """
    grid = _grid()
    grid.add_row("customer", Text(terms.called(profile) or "unknown", style=palette.STRONG))
    grid.add_row("profile", profile.profile_id)
    identities = listed(profile.identities[:_MOST_IDENTITIES], len(profile.identities))
    events = within or words.count(profile.event_count, "event")
    if occurred is None:
        grid.add_row("identities", identities)
        since = ""
        if profile.HasField("first_contact_at"):
            first = words.local(profile.first_contact_at, now.tzinfo)
            since = f", the first contact {words.when(first, now)}"
        grid.add_row("erases", Text(f"{events}{since}, and all identities", style=palette.BAD))
    else:
        grid.add_row("of", identities)
        grid.add_row("erases", Text(f"{events} {_range(occurred, now)}", style=palette.BAD))
        grid.add_row("leaves", "everything else, and the identities")
    return Bounded(Group(Text(), grid, Text()), WIDEST)


def certificate(one: Certificate, *, now: datetime, again: str = "") -> RenderableType:
    """Lays out what was erased, how it was checked, what stays, and what about backups.

    Args:
        one: The certificate.
        now: The present, in the reader's time zone.
        again: The command that erases again after the restore of a backup.
    """
    erased = one.erased
    parts: list[RenderableType] = [Text(), _title(one), Text(), _done(erased, now)]
    if one.checked:
        parts += [Text(), Text("What was looked at afterwards", style=palette.STRONG)]
        parts += [_checks(one), *_failures(one)]
    parts += [Text(), Text("What stays, and why", style=palette.STRONG)]
    parts += [_stays(erased)]
    parts += [Text(), Text("Backups", style=palette.STRONG), Text(BACKUPS)]
    if again:
        parts.append(Text(again, style=palette.QUIET))
    return Bounded(Group(*parts), WIDEST)


def _title(one: Certificate) -> Text:
    if one.clean:
        of = "of that time" if one.erased.HasField("occurred") else "of the customer"
        told = f"{palette.KEPT} Erased, and nothing is left that could tell {of}"
        return Text(told, style=f"bold {palette.GOOD}")
    if not one.checked:
        return Text(f"{palette.KEPT} Erased, not checked", style=f"bold {palette.ATTENTION}")
    left = sum(each.left for each in one.checked)
    silent = sum(bool(each.failure) for each in one.checked)
    found = [f"{left:,} rows or keys are left"] if left else []
    found += [f"{words.count(silent, 'service')} could not be asked"] if silent else []
    return Text(f"{palette.BROKEN} Erased, but {' and '.join(found)}", style=f"bold {palette.BAD}")


def _done(erased: Erased, now: datetime) -> Table:
    grid = _grid()
    at = words.local(erased.erased_at, now.tzinfo)
    grid.add_row("erasure", erased.erasure_id)
    grid.add_row("at", f"{words.when(at, now)}, position {erased.position:,}")
    grid.add_row("profile", erased.profile_id)
    if erased.HasField("occurred"):
        grid.add_row("only what occurred", _range(erased.occurred, now))
    identities = len(erased.identity_keys)
    grid.add_row("identities", f"{identities:,}")
    grid.add_row("keys deleted", f"{erased.deleted_keys:,}")
    grid.add_row("events shut", f"{erased.erased_events:,}, for ever, in every copy of the line")
    if erased.kept_events:
        grid.add_row("events that stay open", f"{erased.kept_events:,}")
    if erased.discarded_rejected_events:
        grid.add_row("rejected events discarded", f"{erased.discarded_rejected_events:,}")
    grid.add_row("asked for by", words.plain(erased.requested_by))
    grid.add_row("because of", words.plain(erased.reason))
    return grid


def _checks(one: Certificate) -> Table:
    table = sheet("", "service", "left", "shut", "looked at")
    for each in one.checked:
        clean = [check for check in each.checks if not check.left]
        if clean:
            _add_check(table, each.service, clean)
        for check in each.checks:
            if check.left:
                _add_check(table, each.service, [check])
        if each.failure:
            mark = Text(palette.BROKEN, style=palette.BAD)
            table.add_row(mark, each.service, "", "", Text("not looked at", style=palette.BAD))
    return table


def _add_check(table: Table, service: str, checks: Sequence[ErasureCheck]) -> None:
    """Add a line for checks that came to the same: none with anything left, or a single one."""
    left, shut = (sum(getattr(check, name) for check in checks) for name in ("left", "shut"))
    symbol, style = (palette.BROKEN, palette.BAD) if left else (palette.KEPT, palette.GOOD)
    table.add_row(
        Text(symbol, style=style),
        service,
        Text(f"{left:,}", style=style),
        Text(f"{shut:,}", style=palette.QUIET),
        Text(", ".join(words.plain(check.what) for check in checks), style=palette.QUIET),
    )


def _failures(one: Certificate) -> Iterator[Text]:
    for each in one.checked:
        if each.failure:
            yield Text(f"{each.service}: {words.plain(each.failure)}", style=palette.BAD)
    folded = ", ".join(map(_folded, (each for each in one.checked if each.positions)))
    if folded:
        yield Text(f"everything up to {folded} was folded", style=palette.QUIET)
    if any(check.shut for each in one.checked for check in each.checks):
        shut = "shut: sealed, and without a key; or a keyed hash that names nobody"
        yield Text(shut, style=palette.QUIET)


def _folded(one: Checked) -> str:
    return f"{one.service} {min(position for _, position in one.positions):,}"


def _stays(erased: Erased) -> Table:
    grid = _grid()
    for what, why in stays(erased):
        grid.add_row(what, why)
    return grid


def _range(occurred: TimeRange, now: datetime) -> str:
    first: Timestamp = getattr(occurred, "from")
    told = [f"from {_exact(first, now)}"] if occurred.HasField("from") else []
    told += [f"before {_exact(occurred.before, now)}"] if occurred.HasField("before") else []
    return " and ".join(told)


def _exact(stamp: Timestamp, now: datetime) -> str:
    moment = words.local(stamp, now.tzinfo)
    return f"{words.day(moment)} {moment:%H:%M}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style=palette.QUIET)
    grid.add_column(overflow="fold")
    return grid
