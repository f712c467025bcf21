"""Makes the README's pictures from a run of the demo: `.venv/bin/python -m docs.images.make`."""

import asyncio
import io
import re
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.segment import SegmentLines
from rich.terminal_theme import TerminalTheme

from libs.cli import commands, scoring_commands, story
from libs.cli.calling import connected
from libs.cli.demo_ending import tell_ending
from libs.cli.population import population
from libs.cli.rendering.timeline import timeline as timeline_of
from libs.cli.stack import SMTP_URL, free_addresses, run_stack, without_settings
from libs.embedded.smtp_sink import SmtpSink, run_smtp_sink
from touchline.client import Client
from touchline.engagement.v1.engagement_service_pb2 import ExplainScoreRequest
from touchline.profile.v1.profile_pb2 import ProfileReference
from touchline.profile.v1.profile_service_pb2 import (
    GetPopulationRequest,
    GetProfileRequest,
    ListTimelineEventsRequest,
)

_HERE: Final = Path(__file__).parent
_TIMELINE_WIDTH: Final = 110
_TIMELINE_LINES: Final = 50
_VIEWS_WIDTH: Final = 164
_WHY_WIDTH: Final = 104
_POINTS: Final = 5
_CUSTOMERS: Final = 300
_THEME: Final = TerminalTheme(
    (24, 27, 34),
    (214, 218, 226),
    [
        *((24, 27, 34), (242, 119, 122), (126, 201, 138), (235, 190, 105)),
        *((110, 160, 240), (200, 140, 220), (92, 200, 212), (214, 218, 226)),
    ],
)
# A reader's own monospaced font: a page that shows the picture may load nothing from elsewhere.
_FONTS: Final = "ui-monospace, 'Cascadia Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def _recorder(width: int) -> Console:
    return Console(
        record=True,
        width=width,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )


def _save(console: Console, name: str, title: str) -> None:
    svg = console.export_svg(title=title, theme=_THEME, unique_id=f"touchline-{name}")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    svg = svg.replace("font-family: Fira Code, monospace", f"font-family: {_FONTS}")
    svg = svg.replace("<svg ", '<svg xml:space="preserve" ', 1)
    lines = [line.rstrip() for line in svg.splitlines()]
    path = _HERE / f"{name}.svg"
    path.write_text("\n".join(line for line in lines if line) + "\n")
    Console().print(f"{path}: {path.stat().st_size // 1024} KiB")


async def _picture(client: Client, sink: SmtpSink) -> None:
    now = datetime.now().astimezone()
    events = [*story.story(now), *population(now, customers=_CUSTOMERS)]
    events.sort(key=lambda event: event.occurred_at.ToNanoseconds())
    verdicts = await client.record(events)
    head = max(verdict.position for verdict in verdicts)
    await client.profile.GetPopulation(GetPopulationRequest(after_position=head))
    reference = ProfileReference(identity=story.EMAIL)

    timeline = _recorder(_TIMELINE_WIDTH)
    profile = (await client.profile.GetProfile(GetProfileRequest(profile=reference))).profile
    request = ListTimelineEventsRequest(profile=reference, page_size=100)
    entries = (await client.profile.ListTimelineEvents(request)).entries
    whole = timeline_of(profile.profile_id, entries, now=now, profile=profile)
    lines = timeline.render_lines(whole, pad=False)[:_TIMELINE_LINES]
    timeline.print(SegmentLines(lines, new_lines=True))
    _save(timeline, "timeline", "touchline timeline ines.falk@example.com")
    views = _recorder(_VIEWS_WIDTH)
    await commands.show_four_views(client, reference, views)
    _save(views, "views", "touchline demo: four views of the same events")
    why = _recorder(_WHY_WIDTH)
    asked = ExplainScoreRequest(profile=reference, after_position=head, page_size=100)
    await scoring_commands.show_explanation(client, asked, why, limit=_POINTS)
    await tell_ending(client, sink, why)
    _save(why, "why", "touchline demo: why her score is so, who was told, and why")


async def _make() -> None:
    with tempfile.TemporaryDirectory(prefix="touchline-images-") as home:
        async with run_smtp_sink() as sink:
            environment = {**without_settings(), SMTP_URL: sink.url}
            stack = run_stack(Path(home), lambda _, __: None, free_addresses(), environment)
            async with stack as (addresses, _), connected(addresses) as client:
                await _picture(client, sink)


if __name__ == "__main__":
    asyncio.run(_make())
