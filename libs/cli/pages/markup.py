"""HTML that can't be broken out of: text is escaped where it becomes markup, and nowhere else."""

import html
import unicodedata
from typing import Final

_VOID: Final = frozenset({"meta"})


class Markup(str):
    """Text that is HTML already. Any other text is what somebody wrote, and is escaped."""

    __slots__ = ()


def tag(element: str, /, *inner: str, **attributes: str) -> Markup:
    """Returns an element.

    Args:
        element: Its name.
        inner: What is in it; what is no Markup is escaped.
        attributes: By name, escaped; a trailing underscore is left out, and one that is empty.
    """
    told = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(visible(value))}"'
        for key, value in attributes.items()
        if value
    )
    if element in _VOID:
        return Markup(f"<{element}{told}>")
    return Markup(f"<{element}{told}>{''.join(map(escaped, inner))}</{element}>")


def joined(*parts: str) -> Markup:
    """Returns parts one after the other; what is no Markup is escaped."""
    return Markup("".join(map(escaped, parts)))


def escaped(text: str) -> Markup:
    """Returns a text as HTML that shows it."""
    return text if isinstance(text, Markup) else Markup(html.escape(visible(text)))


def visible(text: str) -> str:
    """Returns a text without what can't be seen but steers, such as a change of writing direction.

    Ends of lines stay.
    """
    return "".join(char for char in text if char == "\n" or unicodedata.category(char)[0] != "C")
