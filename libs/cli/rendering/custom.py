"""Events of types that a company registered itself, in words."""

import json
from collections.abc import Iterator

from libs.cli.rendering import palette, words
from libs.cli.rendering.lines import Line, Surroundings, by_company, quiet
from touchline.events.v1 import event_pb2 as ev

_LONGEST = 60
_MOST = 8


def event(event: ev.Event, _: Surroundings) -> Line:
    """Says what happened by the type's name, and tells its properties shortly."""
    fact = event.custom_event
    return Line(
        palette.CUSTOM,
        palette.COMPANY if by_company(event) else palette.CUSTOMER,
        "custom",
        whom=words.plain(event.source),
        headline=words.human(fact.name.replace(".", " ")),
        details=quiet(words.plain(event.context.location.name)),
        text=properties(fact.properties_json),
    )


def properties(text: str) -> str:
    """Returns properties such as `title: Glazing · minutes: 42`; those within others by a path.

    Args:
        text: The properties as JSON.
    """
    try:
        # Numbers are shown as they were written.
        told = json.loads(text or "{}", parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return ""
    shown = list(_leaves(told, ""))
    more = [f"and {len(shown) - _MOST} more"] if len(shown) > _MOST else []
    return " · ".join([*shown[:_MOST], *more])


def _leaves(value: object, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        listed = ", ".join(map(_word, value))
        yield f"{words.plain(path)}: {words.clip(listed, _LONGEST)}"
    else:
        yield f"{words.plain(path)}: {_word(value)}"


def _word(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "yes" if value else "no"
        case dict() | list():
            return "…"
        case _:
            return words.clip(words.plain(str(value)), _LONGEST)
