"""Expressions in CEL, compiled once and evaluated on many events."""

import logging
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

import cel

from libs.expressions.checking import MAX_SOURCE, check
from libs.expressions.errors import EvaluationError
from libs.expressions.following import Followed, follow
from libs.expressions.functions import FUNCTIONS, REASONS
from libs.expressions.reads import EVENTS, Shape
from libs.expressions.tokens import fault, words_of

MAX_TEXT: Final = 1_000_000
"""How many characters all texts of a result may have together."""

MAX_NODES: Final = 20_000
"""How many values a result may have, those within lists and maps included."""

# What an event in a result counts as, however much of it the scope was given.
_EVENT_NODES: Final = 40

_PLACE: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_EXPECTING: Final = re.compile(r" expecting \{.*| at input '.*| at: '.*")
_MISSING: Final = re.compile(r"^Undefined variable or function: '(\w+)'")
_FUNCTION: Final = re.compile(r"^Function '(\w+)'")

# It logs what a function of ours raised; the reason goes to the caller, without the event's values.
logging.getLogger("cel").setLevel(logging.CRITICAL)


class Scope:
    """The values that expressions see, converted once and shared by all rules of an event.

    Args:
        values: The values by name: event values, timestamps (aware datetimes), durations
            (timedeltas), texts, numbers, booleans, and lists and maps of them.
    """

    __slots__ = ("context",)

    def __init__(self, values: Mapping[str, object]) -> None:
        self.context = cel.Context(dict(values), dict(FUNCTIONS))

    def set(self, name: str, value: object) -> None:
        """Add a value, or replace it."""
        self.context.add_variable(name, value)


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that compiles.

    Attributes:
        source: As it was written.
        names: The variables it uses.
        followed: What it reads of events, and what of them is in its value.
    """

    source: str
    names: frozenset[str]
    followed: Followed
    _program: cel.Program

    def evaluate(self, scope: Scope) -> object:
        """Return its value.

        Raises:
            EvaluationError: It fails on these values.
        """
        try:
            value: object = self._program.execute(scope.context)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a panic in Rust is no Exception
            raise EvaluationError(_reason(error, self.source)) from None
        if not isinstance(value, bool | int | float):
            _bound(value, events=bool(self.followed.gives.kind))
        return value

    def test(self, scope: Scope) -> bool:
        """Say whether it is true.

        Raises:
            EvaluationError: It fails on these values, or is neither true nor false.
        """
        value = self.evaluate(scope)
        if isinstance(value, bool):
            return value
        raise EvaluationError(f"a condition must be true or false, not {type(value).__name__}")


def compile_expression(
    source: str, names: Collection[str], shapes: Mapping[str, Shape] = EVENTS
) -> Expression:
    """Compile an expression.

    Args:
        source: The expression in CEL, at most 2,000 characters.
        names: The variables that it may use.
        shapes: Those of them that are events or hold some. Default: those that always are.

    Raises:
        ExpressionError: It does not compile, uses an unknown name or function, or could take long.
    """
    if len(source) > MAX_SOURCE:
        raise fault(source, MAX_SOURCE, f"longer than {MAX_SOURCE:,} characters")
    try:
        program = cel.compile(source)
    except Exception as error:
        raise _refused(source, str(error)) from None
    used = check(source, names)
    return Expression(source, used, follow(source, shapes), program)


def _refused(source: str, text: str) -> Exception:
    found = _PLACE.search(text)
    if found is None:
        return fault(source, 0, "this is no expression")
    line, column, description = int(found[1]), int(found[2]), found[3]
    lines = source.split("\n")
    offset = sum(len(before) + 1 for before in lines[: line - 1]) + column - 1
    if not source.strip():
        return fault(source, 0, "the expression is empty")
    if offset >= len(source.rstrip()):
        return fault(source, len(source.rstrip()), "the expression ends too early")
    if "mismatched" in description or "extraneous" in description or "viable" in description:
        word = next(words_of(source, offset), None)
        description = f"unexpected {word.text if word else 'end'}"
    return fault(source, offset, _EXPECTING.sub("", description))


def _reason(error: BaseException, source: str) -> str:
    """Say what failed, without anything of the event."""
    text = str(error)
    if isinstance(error, KeyError):
        key = text.strip("'\"")
        if any(word.text.strip("'\"") == key for word in words_of(source)):
            return f"there is no {key} here: ask has(….{key}) before"
        return "a map does not have the key that is asked for"
    if isinstance(error, IndexError):
        return "a list is shorter than the index says: ask its size() before"
    if isinstance(error, ZeroDivisionError):
        return "division by zero"
    if isinstance(error, OverflowError):
        return "a number or time grew too large"
    if isinstance(error, TypeError):
        return "values of kinds that don't go together, such as a text and a number, or 1 and 1.0"
    missing = _MISSING.search(text)
    if missing:
        return f"{missing[1]} has no value here"
    called = _FUNCTION.match(text)
    name = called[1] if called else "a function"
    why = next((reason for reason in REASONS if reason in text), "its arguments don't suit it")
    return f"{name} failed: {why}"


def _bound(value: object, *, events: bool) -> None:
    nodes, characters = MAX_NODES, MAX_TEXT
    rest = [value]
    while rest:
        one = rest.pop()
        nodes -= 1
        if isinstance(one, str | bytes):
            characters -= len(one)
        elif isinstance(one, list):
            rest.extend(one[:MAX_NODES])
        elif isinstance(one, dict) and events:
            nodes -= _EVENT_NODES
        elif isinstance(one, dict):
            rest.extend(one.values())
        if nodes < 0 or characters < 0:
            raise EvaluationError(
                f"the result is larger than {MAX_TEXT:,} characters or {MAX_NODES:,} values"
            )
