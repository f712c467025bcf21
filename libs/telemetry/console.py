"""Log lines for people: time, service, event, then what it is about."""

import os
import re
from collections.abc import MutableMapping
from datetime import datetime
from typing import Any, Final, TextIO

_RESET: Final = "\x1b[0m"
_BOLD: Final = "\x1b[1m"
_DIM: Final = "\x1b[2m"
_LEVEL_COLOURS: Final = {
    "debug": "\x1b[2m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
    "critical": "\x1b[1;31m",
}
_LEVEL_MARKS: Final = {"warning": "!", "error": "✗", "critical": "✗"}
# Far apart, and neither the red nor the yellow of trouble.
_SERVICE_COLOURS: Final = ("\x1b[36m", "\x1b[35m", "\x1b[32m", "\x1b[34m")
_SERVICE_WIDTH: Final = 12
_EVENT_WIDTH: Final = 32
_PLAIN: Final = re.compile(r"[^\s\"'=]+")


def wants_colours(stream: TextIO) -> bool:
    """Return whether to colour: NO_COLOR forbids, FORCE_COLOR asks, else a terminal decides."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()


class ConsoleRenderer:
    """Renders a line's fields for people; `colours` says whether with colours."""

    def __init__(self, colours: bool) -> None:
        self._colours = colours

    def __call__(self, _: Any, __: str, fields: MutableMapping[str, Any]) -> str:
        """Return the line, and below it where an exception passed."""
        level = fields.pop("level", "info")
        service = str(fields.pop("service", ""))
        event = str(fields.pop("event", ""))
        frames = fields.pop("frames", [])
        trace_id = fields.pop("trace_id", "")
        time = self._paint(_DIM, _clock(str(fields.pop("time", ""))))
        name = self._paint(_service_colour(service), f"{service:<{_SERVICE_WIDTH}}")
        mark = self._paint(_LEVEL_COLOURS.get(level, ""), _LEVEL_MARKS.get(level, " "))
        pairs = [
            self._paint(_DIM, f"{key}=") + self._paint(_LEVEL_COLOURS.get(level, ""), _shown(value))
            for key, value in fields.items()
        ]
        if trace_id:
            pairs.append(self._paint(_DIM, f"trace={trace_id[:8]}"))
        text = f"{event:<{_EVENT_WIDTH}}" if pairs else event
        head = f"{time}  {name} {mark} {self._paint(_LEVEL_COLOURS.get(level, _BOLD), text)}"
        line = " ".join([head, *pairs]).rstrip()
        return "\n".join([line, *(self._paint(_DIM, f"{'':>16}{frame}") for frame in frames)])

    def _paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_RESET}" if self._colours and colour else text


def _clock(iso: str) -> str:
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%H:%M:%S.%f")[:-3]
    except ValueError:
        return iso


def _service_colour(service: str) -> str:
    return _SERVICE_COLOURS[sum(service.encode()) % len(_SERVICE_COLOURS)]


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}" if abs(value) >= 100_000 else str(value)
    text = str(value)
    return text if _PLAIN.fullmatch(text) else repr(text)
