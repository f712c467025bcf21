"""`touchline demo`: one customer's story, told through the running services."""

import shlex
import shutil
import time
from contextlib import AsyncExitStack
from datetime import datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.rule import Rule
from rich.text import Text

from libs.cli import commands, scoring_commands, story, verify_command
from libs.cli.calling import FAILED, connected, console, fail, program, run_command
from libs.cli.demo_ending import tell_ending
from libs.cli.population import population
from libs.cli.rendering import verify
from libs.cli.stack import SMTP_URL, free_addresses, home_of, run_stack, without_settings
from libs.cli.up import STARTING
from libs.embedded import HomeBusy, StartFailed
from libs.embedded.errors import step
from libs.embedded.home import LOCK_FILE, SECRETS_FILE, hold
from libs.embedded.smtp_sink import SmtpSink, run_smtp_sink
from libs.rpc.tenants import DEFAULT_TENANT
from touchline.client import Client
from touchline.engagement.v1.engagement_service_pb2 import ExplainScoreRequest
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import OUTCOME_RECORDED
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import GetPopulationRequest

_BATCH: Final = 200
_PAGE: Final = 500
_POINTS: Final = 8


def demo(
    customers: Annotated[int, typer.Option(min=0, help="How many others to generate.")] = 300,
) -> None:
    """Tell the story of one customer among others, on servers and data of its own."""
    try:
        run_command(_tell(customers))
    except (HomeBusy, StartFailed) as error:
        fail(str(error))


async def _tell(customers: int) -> None:
    began = time.monotonic()
    home = home_of() / "demo"
    _empty(home)  # each telling starts on an empty line
    with console.status(STARTING) as waiting:
        async with AsyncExitStack() as stack:
            sink = await stack.enter_async_context(run_smtp_sink())
            environment = {**without_settings(), SMTP_URL: sink.url}
            running = run_stack(home, lambda _, __: None, free_addresses(), environment)
            addresses, _ = await stack.enter_async_context(running)
            waiting.stop()
            async with connected(addresses, DEFAULT_TENANT) as client:
                intact = await _tell_through(client, customers, sink)
            waiting.update("stopping")
            waiting.start()
    seconds = time.monotonic() - began
    look_around = f"TOUCHLINE_HOME={shlex.quote(str(home))} {program()} up"
    console.print(f"Told in {seconds:.0f} s. Look around in it:", style="dim")
    console.print(Text(f"  {look_around}", style="dim"), soft_wrap=True)
    if not intact:
        raise typer.Exit(FAILED)


def _empty(home: Path) -> None:
    """Remove what an earlier demo left, but never what is in use or not Touchline's.

    Raises:
        HomeBusy: Something runs on it.
        StartFailed: It holds what no demo left there.
    """
    with hold(home):
        left = sorted(home.iterdir(), key=lambda path: path.name == SECRETS_FILE)
        left = [path for path in left if path.name != LOCK_FILE]
        if left and left[-1].name != SECRETS_FILE:
            reason = "it holds files that are not a demo's. Move them, or set TOUCHLINE_HOME."
            raise StartFailed(f"empty {home}", reason)
        with step(f"empty {home}"):
            for path in left:  # the secrets last: without them the next demo would refuse the rest
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()


async def _tell_through(client: Client, customers: int, sink: SmtpSink) -> bool:
    now = datetime.now().astimezone()
    events = sorted(
        [*story.story(now), *population(now, customers=customers)],
        key=lambda event: event.occurred_at.ToNanoseconds(),
    )
    head = await _record(client, events)
    counted = await client.profile.GetPopulation(GetPopulationRequest(after_position=head))
    console.print(
        f"{counted.events:,} events of {counted.profiles:,} customers, on one line. "
        f"This is {story.CUSTOMER}.",
    )
    reference = ProfileReference(identity=story.EMAIL)
    console.print(Rule("What happened", style="dim"))
    await commands.show_timeline(client, reference, console, limit=100)
    console.print(Rule("Four views of the same events", style="dim"))
    await commands.show_four_views(client, reference, console)
    console.print(Rule("Every point of her score", style="dim"))
    asked = ExplainScoreRequest(profile=reference, after_position=head, page_size=_PAGE)
    await scoring_commands.show_explanation(client, asked, console, limit=_POINTS)
    await tell_ending(client, sink, console)
    console.print(Rule("Is it all there?", style="dim"))
    return await verify_command.show_verification(client, console)


async def _record(client: Client, events: list[Event]) -> int:
    """Record events and return the last position."""
    head = 0
    with verify.progress(console) as bar:
        task = bar.add_task("recording", total=len(events))
        for start in range(0, len(events), _BATCH):
            verdicts = await client.record(events[start : start + _BATCH])
            for verdict in verdicts:
                if verdict.outcome != OUTCOME_RECORDED:
                    fail(f"An event of the story was not recorded: {verdict}")
                head = max(head, verdict.position)
            bar.advance(task, len(verdicts))
    return head
