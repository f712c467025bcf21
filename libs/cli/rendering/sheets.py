"""A view in words, before it is laid out: a sheet of sections of items."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.cli.rendering import palette


@dataclass(frozen=True, slots=True)
class Item:
    """One thing in a section.

    Attributes:
        head: What it is.
        remark: What else there is to know, in small.
        text: What was said.
        symbol: One cell that says what sort of thing it is.
        style: The colour of the symbol, and of `state`.
        state: How it stands; the remark's first word, coloured.
    """

    head: str
    remark: str = ""
    text: str = ""
    symbol: str = " "
    style: str = palette.COMPANY
    state: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a view.

    Attributes:
        title: What it holds.
        items: Its items.
        empty: What to say when there are none.
        remark: What stands beside the title.
        most: How many items it shows beside other views; one view in full shows all.
    """

    title: str
    items: Sequence[Item]
    empty: str
    remark: str = ""
    most: int = 4


@dataclass(frozen=True, slots=True)
class Sheet:
    """A view in words: whose it is, a phrase that says what it holds, and its sections."""

    title: str
    phrase: str
    sections: Sequence[Section]
