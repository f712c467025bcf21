"""Log lines: JSON for machines, coloured lines for people, with the trace id on each."""

import logging
import os
import sys
from collections.abc import Callable, MutableMapping
from typing import Any, Final

import structlog

from libs.telemetry import console, context, failures

_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_FORMATS: Final = ("json", "console")

Fields = MutableMapping[str, Any]
Processor = Callable[[Any, str, Fields], Fields]


def configure(service: str) -> None:
    """Send the log lines of structlog and of the standard library to stderr in one format.

    TOUCHLINE_LOG says which, `json` or `console` (default: console on a terminal, else json);
    TOUCHLINE_LOG_LEVEL is debug, info (default), warning or error. Exceptions are logged by kind
    and place, without their text.

    Raises:
        ValueError: A variable is not one of its values.
    """
    level = _LEVELS[_chosen("TOUCHLINE_LOG_LEVEL", tuple(_LEVELS), "info")]
    default = "console" if sys.stderr.isatty() else "json"
    shown = _chosen("TOUCHLINE_LOG", _FORMATS, default)
    shared = _shared(service)
    last: Any = (
        console.ConsoleRenderer(console.wants_colours(sys.stderr))
        if shown == "console"
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[structlog.processors.add_log_level, *shared, last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, _add_logger, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    # Libraries tell at info what only they care for.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _shared(service: str) -> list[Processor]:
    def add_context(_: Any, __: str, fields: Fields) -> Fields:
        fields["service"] = service
        trace_id = context.current_trace_id()
        if trace_id:
            fields["trace_id"] = trace_id
        return fields

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        add_context,
        _describe_exception,
    ]


def _add_logger(_: Any, __: str, fields: Fields) -> Fields:
    record = fields.get("_record")
    if record is not None:
        fields["logger"] = record.name
    return fields


def _describe_exception(_: Any, __: str, fields: Fields) -> Fields:
    info = fields.pop("exc_info", None)
    if not info:
        return fields
    error = info if isinstance(info, BaseException) else None
    if error is None:
        error = info[1] if isinstance(info, tuple) else sys.exc_info()[1]
    if error is not None:
        fields["error"] = failures.described(error)
        fields["frames"] = failures.frames(error)
    return fields


def _chosen(variable: str, allowed: tuple[str, ...], default: str) -> str:
    value = os.environ.get(variable, "") or default
    if value not in allowed:
        raise ValueError(f"{variable} must be one of {', '.join(allowed)}; it is {value!r}.")
    return value
