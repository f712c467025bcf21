"""Templates: text with {{ expression }} in it."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from libs.expressions.errors import ExpressionError
from libs.expressions.expression import Expression, Scope, compile_expression
from libs.expressions.formatting import shown
from libs.expressions.reads import EVENTS, Reads, Shape, together
from libs.expressions.tokens import fault, words_of

MAX_TEMPLATE: Final = 10_000
"""How many characters a template has at most."""

MAX_PLACES: Final = 50
"""How many expressions a template has at most."""

MAX_RENDERED: Final = 20_000
"""How many characters a text has at most; the rest is cut off."""


@dataclass(frozen=True, slots=True)
class Template:
    """A template that compiles.

    Attributes:
        source: As it was written.
        names: The variables it uses.
        reads: What it reads of the events of each variable.
    """

    source: str
    names: frozenset[str]
    reads: Mapping[str, Reads]
    _parts: tuple[str | Expression, ...]

    def render(self, scope: Scope) -> str:
        """Return the text with the values of its expressions, as readers see them.

        Raises:
            EvaluationError: One of them fails on these values, or can't be shown.
        """
        text = "".join(
            part if isinstance(part, str) else shown(part.evaluate(scope)) for part in self._parts
        )
        return text if len(text) <= MAX_RENDERED else text[: MAX_RENDERED - 1] + "…"


def compile_template(
    source: str, names: Collection[str], shapes: Mapping[str, Shape] = EVENTS
) -> Template:
    """Compile a template.

    Args:
        source: Text with expressions between two opening and two closing braces. Everything else
            stands for itself.
        names: The variables that the expressions may use.
        shapes: Those of them that are events or hold some. Default: those that always are.

    Raises:
        ExpressionError: Braces stay open, or an expression does not compile; its place is that in
            the template.
    """
    if len(source) > MAX_TEMPLATE:
        raise fault(source, MAX_TEMPLATE, f"longer than {MAX_TEMPLATE:,} characters")
    parts: list[str | Expression] = []
    after = 0
    while (opening := source.find("{{", after)) >= 0:
        parts.append(source[after:opening])
        closing = _closing(source, opening + 2)
        parts.append(_place(source, opening + 2, closing, names, shapes))
        after = closing + 2
        if len(parts) > 2 * MAX_PLACES:
            raise fault(source, opening, f"more than {MAX_PLACES} expressions in one template")
    parts.append(source[after:])
    places = [part for part in parts if isinstance(part, Expression)]
    return Template(
        source,
        frozenset().union(*(place.names for place in places)),
        together(place.followed.reads for place in places),
        tuple(part for part in parts if part),
    )


def _closing(source: str, start: int) -> int:
    """Return where the braces close: outside of quotes, and of braces of the expression's own."""
    depth = 0
    last = -1
    for word in words_of(source, start):
        if word.text == "{":
            depth += 1
        elif word.text == "}" and depth:
            depth -= 1
        elif word.text == "}":
            if last == word.start - 1:
                return last
            last = word.start
    raise fault(source, start - 2, "{{ is not closed by }}; to show braces, write {{ '{{' }}")


def _place(
    source: str, start: int, end: int, names: Collection[str], shapes: Mapping[str, Shape]
) -> Expression:
    try:
        return compile_expression(source[start:end], names, shapes)
    except ExpressionError as error:
        lines = source[start:end].split("\n")
        offset = sum(len(line) + 1 for line in lines[: error.line - 1]) + error.column - 1
        raise fault(source, start + offset, error.description) from None
