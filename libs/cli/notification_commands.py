"""The commands about who was told what, and why."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.text import Text

from libs.cli.calling import connected, console, run_command
from libs.cli.looking import lines_of_events, names_of
from libs.cli.references import FORMS, reference_of
from libs.cli.rendering import inbox as inboxes
from libs.cli.rendering import rules as rule_lists
from libs.cli.rendering.degraded import degraded
from libs.cli.rendering.facts import describe
from libs.cli.rendering.lines import Line, Surroundings
from libs.cli.rendering.why import why as why_of
from touchline.client import Client
from touchline.events.v1.event_pb2 import Event
from touchline.failures import CallFailed, readable_failures
from touchline.notification.v1.notification_pb2 import InboxItem
from touchline.notification.v1.notification_service_pb2 import (
    ExplainNotificationRequest,
    ExplainNotificationResponse,
    Inbox,
    ListInboxRequest,
    ListRulesRequest,
    MarkReadRequest,
    WatchInboxRequest,
)
from touchline.profile.v1.profile_pb2 import ProfileReference, TimelineEntry

_PAGE: Final = 500
_CUSTOMERS: Final = re.compile(r"[0-9a-f]{32}|\+.*|.*[@:].*")


def inbox(
    owner: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE|IDENTITY",
            help=f"An employee or team, such as agent-7 or team:fraud; or a customer. {FORMS}",
        ),
    ],
    limit: Annotated[int, typer.Option(min=1, max=_PAGE, help="How many at most.")] = 20,
    unread: Annotated[bool, typer.Option("--unread", help="Only what is unread.")] = False,
    read: Annotated[bool, typer.Option("--read", help="Mark what is shown as read.")] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on with what comes in, until Ctrl-C.")
    ] = False,
) -> None:
    """Show what an employee, a team or a customer was told, newest first."""
    whose = inbox_of(owner)

    async def show() -> None:
        request = ListInboxRequest(inbox=whose, unread_only=unread, page_size=limit)
        async with connected() as client:
            listed = await client.notification.ListInbox(request)
            names = await names_of(client, [one.profile_id for one in listed.items])
            shown = inboxes.inbox(owner, listed.items, names, unread=listed.unread, now=_now())
            console.print(shown)
            if listed.degraded_projections:
                console.print(degraded(listed.degraded_projections))
            if read:
                await _mark_read(client, listed.items)
            if watch:
                newest = max((one.position for one in listed.items), default=0)
                await _watch(client, whose, newest)

    run_command(show())


def why(
    of: Annotated[
        str,
        typer.Argument(metavar="EVENT_ID|NOTIFICATION_ID", help="As `inbox` and `explain` tell."),
    ],
) -> None:
    """Show why somebody was told something, or why nobody was."""

    async def show() -> None:
        async with connected() as client:
            await show_why(client, of.strip().lower(), console)

    run_command(show())


def rules() -> None:
    """List the rules: what they look at, when they act, and what they do."""

    async def show() -> None:
        async with connected() as client:
            listed = (await client.notification.ListRules(ListRulesRequest())).rules
        console.print(rule_lists.rules(listed, now=_now()))

    run_command(show())


def inbox_of(owner: str) -> Inbox:
    """Return the inbox that a person means: a customer's, or an employee's or a team's.

    What has the form of an identity is a customer, but for `team:…`.

    Raises:
        typer.BadParameter: It has the form of an identity, and is none that anybody can have.
    """
    owner = owner.strip()
    if owner.startswith("team:") or not _CUSTOMERS.fullmatch(owner):
        return Inbox(reference=owner)
    return Inbox(customer=reference_of(owner))


async def show_why(client: Client, of: str, to: Console, *, after_position: int = 0) -> None:
    """Print why somebody was told, or nobody.

    Args:
        client: Asks.
        of: The id of a notification or of an event.
        to: Where to print.
        after_position: Wait for this position.
    """
    explained = await _explained(client, of, after_position)
    to.print(why_of(explained, await _line(client, explained.event), now=_now()))


async def _explained(client: Client, of: str, after_position: int) -> ExplainNotificationResponse:
    ask = client.notification.ExplainNotification
    try:
        with readable_failures():
            return await ask(
                ExplainNotificationRequest(notification_id=of, after_position=after_position)
            )
    except CallFailed as failed:
        if failed.reason != "NOTIFICATION_NOT_FOUND":
            raise
    return await ask(ExplainNotificationRequest(event_id=of, after_position=after_position))


async def _line(client: Client, event: Event) -> Line:
    """Return an event in words, with what the customer's other events say about it."""
    if event.identities and event.WhichOneof("fact"):
        reference = ProfileReference(identity=event.identities[0])
        if line := (await lines_of_events(client, reference)).get(event.event_id):
            return line
    erased = event.WhichOneof("fact") is None
    return describe(TimelineEntry(event=event, erased=erased), Surroundings(_now(), "customer"))


async def _mark_read(client: Client, items: Sequence[InboxItem]) -> None:
    unread = [one.notification_id for one in items if not one.HasField("read_at")]
    if unread:
        await client.notification.MarkRead(MarkReadRequest(notification_ids=unread))
        console.print(Text(f"{len(unread):,} marked as read", style="dim"))


async def _watch(client: Client, whose: Inbox, after_position: int) -> None:
    request = WatchInboxRequest(inbox=whose, after_position=after_position)
    async for told in client.notification.WatchInbox(request):
        names = await names_of(client, [told.item.profile_id])
        console.print(inboxes.item(told.item, names, now=_now()))


def _now() -> datetime:
    return datetime.now().astimezone()
