"""Types of custom events: what each means, and what its events have."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from libs.cli.rendering import palette, words
from touchline.ingestion.v1 import ingestion_pb2 as ingestion


def event_types(
    listed: Sequence[ingestion.CustomEventType], *, now: datetime, hint: str = ""
) -> RenderableType:
    """Lays out types with the properties of their events.

    Args:
        listed: The newest version of each.
        now: The present, in the reader's time zone.
        hint: What to do when there are none.
    """
    if not listed:
        none = Text("No type of custom events is registered.", style=palette.QUIET)
        return Text.assemble(none, (f" {hint}" if hint else "", palette.QUIET))
    table = Table(box=box.SIMPLE_HEAD, header_style=palette.QUIET, pad_edge=False)
    table.add_column("type", no_wrap=True)
    table.add_column("what it means", ratio=1)
    table.add_column("properties", ratio=1)
    for one in listed:
        when = words.when(words.local(one.registered_at, now.tzinfo), now)
        name = Text(f"{palette.CUSTOM} {one.name}", style=palette.STRONG)
        table.add_row(
            Group(name, Text(f"  v{one.version} · {when}", style=palette.QUIET)),
            words.plain(one.description) or Text("not said", style=palette.QUIET),
            Text("\n").join(_properties(json.loads(one.json_schema))),
        )
        table.add_section()
    return table


def _properties(schema: Mapping[str, Any]) -> Iterator[Text]:
    required = schema.get("required", ())
    for name, rule in schema.get("properties", {}).items():
        yield Text.assemble(
            (words.plain(name), palette.STRONG if name in required else ""),
            (f" {_kind(rule)}", palette.QUIET),
            ("" if name in required else ", if given", palette.QUIET),
        )
    if schema.get("additionalProperties", True) is not False:
        yield Text("and any others", style=palette.QUIET)


def _kind(rule: Any) -> str:
    if not isinstance(rule, dict):
        return ""
    kind, choices = rule.get("type"), rule.get("enum")
    if isinstance(choices, list):
        told = ", ".join(words.plain(str(one)) for one in choices)
        return f"one of {words.clip(told, 60)}"
    named = " or ".join(kind) if isinstance(kind, list) else str(kind or "")
    return f"{named} {rule['format']}".strip() if "format" in rule else named
