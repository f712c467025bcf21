"""Log lines of services and servers, made readable."""

import json
import re
from collections.abc import Mapping
from datetime import datetime, tzinfo
from typing import Any

from rich.text import Text

from libs.cli.rendering import palette, words

# Hues of their own, apart from those that mean something elsewhere.
SERVICES = {
    "ingestion": "bright_blue",
    "profile": "bright_magenta",
    "engagement": "blue",
    "notification": "magenta",
}
LEVELS = {
    "debug": palette.QUIET,
    "info": "",
    "warning": palette.ATTENTION,
    "error": palette.BAD,
    "critical": f"bold {palette.BAD}",
}
LONGEST_FOREIGN_LINE = 200
NAME_WIDTH = 14
_SAID_ELSEWHERE = frozenset({"time", "level", "event", "service", "frames", "logger"})
# PostgreSQL: `2026-11-03 10:00:00.123 UTC [42] LOG:  …`; nats: `[42] 2026/11/03 10:00:00.1 [INF] …`
_PREAMBLE = re.compile(
    r"^(?:\d{4}-\d\d-\d\d (?P<postgres>\d\d:\d\d:\d\d)[.\d]* \S+ \[\d+\]\s*(?=[A-Z]+:)"
    r"|\[\d+\] \d{4}/\d\d/\d\d (?P<nats>\d\d:\d\d:\d\d)[.\d]* )"
)
_ALARM = re.compile(r"^(?:ERROR|FATAL|PANIC):|^\[(?:ERR|FTL)\]")
_WARNING = re.compile(r"^WARNING:|^\[WRN\]")


def log_line(line: str, service: str = "", *, zone: tzinfo | None = None) -> Text:
    """Makes a log line readable: time, service, what happened, and the rest in small.

    Args:
        line: A line as written: a JSON object of ours, or whatever a server writes.
        service: Who wrote it; left out: what the line says.
        zone: The reader's time zone; left out: this machine's.
    """
    said = _parsed(line)
    if said is None:
        return _foreign(line, service)
    level = str(said.get("level", "info")).lower()
    text = _opening(_clock(said.get("time"), zone), str(said.get("service") or service))
    style = LEVELS.get(level, "")
    if level not in ("info", "debug"):
        text.append(f"{level} ", style=f"bold {style}")
    text.append(words.plain(str(said.get("event", ""))), style=style)
    for name, value in said.items():
        if name not in _SAID_ELSEWHERE:
            text.append(f"  {words.plain(name)}=", style=palette.QUIET)
            text.append(words.plain(_value(value)))
    # Where a mere warning comes from is in the log file.
    for frame in said.get("frames") or () if level in ("error", "critical") else ():
        text.append(f"\n{' ' * (NAME_WIDTH + 10)}{words.plain(str(frame))}", palette.QUIET)
    return text


def _parsed(line: str) -> Mapping[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        said = json.loads(line)
    except ValueError:
        return None
    return said if isinstance(said, dict) and "event" in said else None


def _foreign(line: str, service: str) -> Text:
    told = words.plain(line)
    preamble = _PREAMBLE.match(told)
    clock = (preamble["postgres"] or preamble["nats"]) if preamble else ""
    told = told[preamble.end() :] if preamble else told
    style = palette.QUIET
    if _ALARM.match(told):
        style = palette.BAD
    elif _WARNING.match(told):
        style = palette.ATTENTION
    text = _opening(clock, service)
    return text.append(words.clip(told, LONGEST_FOREIGN_LINE), style=style)


def _opening(clock: str, service: str) -> Text:
    name = words.clip(words.plain(service), NAME_WIDTH)
    text = Text(f"{clock:<8}  ", style=palette.QUIET)
    style = f"not dim {SERVICES[name]}" if name in SERVICES else ""
    return Text().append_text(text).append(f"{name:<{NAME_WIDTH}}", style=style or palette.QUIET)


def _clock(stamp: object, zone: tzinfo | None) -> str:
    try:
        moment = datetime.fromisoformat(str(stamp))
    except ValueError:
        return ""
    return f"{moment.astimezone(zone) if moment.tzinfo else moment:%H:%M:%S}"


def _value(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
