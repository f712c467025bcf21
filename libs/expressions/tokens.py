"""The words of a CEL source, each with its place.

The parser of the `cel` module keeps its syntax tree to itself. To say where an unknown name stands,
and to bound what an expression may cost, its words are enough.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libs.expressions.errors import ExpressionError

# Longer alternatives first. Quoted text may hold anything, raw text no escapes.
_WORD: Final = re.compile(
    r"""
      (?P<blank>\s+|//[^\n]*)
    | (?P<text>
        [bB]?[rR][bB]?(?:'{3}.*?'{3}|"{3}.*?"{3}|'[^'\n]*'|"[^"\n]*")
      | [bB]?(?:'{3}(?:\\.|[^\\])*?'{3}|"{3}(?:\\.|[^\\])*?"{3}
               |'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*")
      )
    | (?P<number>0x[0-9a-fA-F]+u?|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?[uU]?|\.\d+(?:[eE][+-]?\d+)?)
    | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
    | (?P<sign>&&|\|\||[=!<>]=|.)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a source.

    Attributes:
        kind: `text`, `number`, `name` or `sign`.
        text: As it stands in the source.
        start: Its offset in the source, from 0.
    """

    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.start + len(self.text)


def words_of(source: str, start: int = 0) -> Iterator[Word]:
    """Yield the words of a source from an offset on, without blanks and comments."""
    for match in _WORD.finditer(source, start):
        kind = match.lastgroup or "sign"
        if kind != "blank":
            yield Word(kind, match.group(), match.start())


def fault(source: str, offset: int, description: str) -> ExpressionError:
    """Return the error that something is wrong at an offset of a source."""
    before = source[:offset]
    line = before.count("\n") + 1
    return ExpressionError(line, offset - (before.rfind("\n") + 1) + 1, description)
