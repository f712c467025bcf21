"""The end of the demo's story: a promise is broken while we watch, and somebody is told."""

import asyncio
from datetime import datetime, timedelta
from typing import Final

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from libs.cli import notification_commands, publish_command, story
from libs.cli.calling import fail
from libs.cli.rendering import palette
from libs.cli.rendering.expectations import expectations
from libs.cli.rendering.mail import mail
from libs.cli.stack import CHECKOUT
from libs.cli.story import ending
from libs.embedded.smtp_sink import SmtpSink
from touchline.client import Client
from touchline.notification.v1.notification_pb2 import (
    EXPECTATION_STATE_BROKEN,
    InboxItem,
    Recipient,
)
from touchline.notification.v1.notification_service_pb2 import (
    ExplainNotificationRequest,
    GivePromiseRequest,
    Inbox,
    ListExpectationsRequest,
    PutRecipientRequest,
    WatchInboxRequest,
)
from touchline.profile.v1.profile_pb2 import ProfileReference

_RULES: Final = ("promise-broken", "public-complaint")
_DUE: Final = timedelta(seconds=1.5)
_WITHIN: Final = 20.0


async def tell_ending(client: Client, sink: SmtpSink, to: Console) -> None:
    """Publish the rules, give the promise, let it break, and show who is told and why.

    Args:
        client: Of services that have heard of her.
        sink: Where notification hands in mail.
        to: Where to print.
    """
    to.print(Rule("A promise is broken, and noticed", style="dim"))
    await _prepare(client)
    notified = await _notified(client, to)
    await _show_broken(client, notified.position, to)
    try:
        to.print(mail(await sink.next_mail(_WITHIN)))
        async with asyncio.timeout(_WITHIN):
            while not await _delivery_is_recorded(  # noqa: ASYNC110 - no call waits for it
                client, notified.notification_id
            ):
                await asyncio.sleep(0.05)
    except TimeoutError:
        fail("The alert did not come over SMTP, or nobody recorded that it did.")
    to.print(Rule("Why was the team told?", style="dim"))
    await notification_commands.show_why(client, notified.notification_id, to)
    to.print(Rule("And why was nobody told of this?", style="dim"))
    post = ending.is_called_in_time(story.Teller(story.SEED, datetime.now().astimezone()))
    [verdict] = await client.record([post])
    await notification_commands.show_why(client, post.event_id, to, after_position=verdict.position)


async def _prepare(client: Client) -> None:
    for name in _RULES:
        path = CHECKOUT / "examples" / "rules" / f"{name}.json"
        await publish_command.published(
            client, publish_command.read_definition(path), "touchline-demo"
        )
    team = Recipient(reference=ending.TEAM, email=ending.TEAM_EMAIL)
    await client.notification.PutRecipient(PutRecipientRequest(recipient=team))


async def _notified(client: Client, to: Console) -> InboxItem:
    """Give the promise, and wait until the team has a notification of its end."""
    request = GivePromiseRequest(
        expectation_id=ending.PROMISE_ID,
        identities=[story.EMAIL],
        promise=ending.PROMISE,
        promised_by=ending.PROMISED_BY,
        team=ending.TEAM,
    )
    request.due_at.FromDatetime(datetime.now().astimezone() + _DUE)
    await client.notification.GivePromise(request)
    told = Text(f"{palette.OPEN} {ending.PROMISED_BY} promises {story.CUSTOMER}, within seconds: ")
    to.print(told.append(f"“{ending.PROMISE}.”", palette.STRONG))
    watched = client.notification.WatchInbox(WatchInboxRequest(inbox=Inbox(reference=ending.TEAM)))
    try:
        async with asyncio.timeout(_WITHIN):
            async for response in watched:
                return response.item
    except TimeoutError:
        pass
    finally:
        watched.cancel()
    return fail("Nobody was told that the promise is broken.")


async def _delivery_is_recorded(client: Client, notification_id: str) -> bool:
    request = ExplainNotificationRequest(notification_id=notification_id)
    explained = await client.notification.ExplainNotification(request)
    return any(one.attempts for one in explained.notifications)


async def _show_broken(client: Client, after_position: int, to: Console) -> None:
    request = ListExpectationsRequest(
        profile=ProfileReference(identity=story.EMAIL),
        states=[EXPECTATION_STATE_BROKEN],
        after_position=after_position,
    )
    listed = (await client.notification.ListExpectations(request)).expectations
    ours = [one for one in listed if one.expectation_id == ending.PROMISE_ID]
    names = {one.profile_id: story.CUSTOMER for one in ours}
    to.print(expectations(ours, names, now=datetime.now().astimezone()))
