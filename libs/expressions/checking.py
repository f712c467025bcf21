"""What an expression may name and how much it may cost, seen from its words.

An expression is evaluated inside the loop that serves everybody, and can't be stopped half-way. So
what could take long is refused when it is written; docs/expressions.md says what and why.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

import cel

from libs.expressions.event_value import EVENT_FIELDS
from libs.expressions.functions import ARGUMENTS
from libs.expressions.tokens import Word, fault, words_of

EVENT: Final = "event"
"""The name that always means an event's value, so that its fields can be checked."""

MAX_SOURCE: Final = 2_000
MAX_BRACKETS: Final = 24
MAX_MACROS: Final = 4
MAX_COPYING_MACROS: Final = 2
MAX_GROWTH: Final = {0: 20, 1: 1, 2: 0}
"""By how deep macros stand in macros: how many signs there may be that multiply what they join."""

MAX_INNER_WORDS: Final = 60
MAX_INNER_CALLS: Final = 2
MAX_PATTERN: Final = 100

_MACROS: Final = {"all": 2, "exists": 2, "exists_one": 2, "filter": 2, "map": 3}
_INNER_MACROS: Final = ("all", "exists", "exists_one")
_COPYING_MACROS: Final = ("filter", "map")
_CONSTANTS: Final = frozenset({"true", "false", "null", "in"})
_COSTLY_PATTERN: Final = re.compile(r"\{|\\[pPwWdDsSbB].*\\[pPwWdDsSbB].*\\[pPwWdDsSbB]", re.DOTALL)
_START: Final = Word("sign", "", 0)


@dataclass(slots=True)
class _Bracket:
    """An open bracket: of a call, a list or map that is written out, or neither."""

    opening: Word
    function: str = ""
    method: bool = False
    literal: bool = False
    constant: bool = True
    commas: int = 0
    empty: bool = True
    bound: str = ""

    @property
    def macro(self) -> bool:
        """Whether it is a comprehension's, such as `list.map(x, …)`."""
        return self.method and self.function in _MACROS


@dataclass(slots=True)
class _Check:
    source: str
    names: Collection[str]
    used: set[str] = field(default_factory=set)
    open: list[_Bracket] = field(default_factory=list)
    macros: int = 0
    copying: int = 0
    depth: int = 0
    inner_words: int = 0
    inner_calls: int = 0
    growth: list[Word] = field(default_factory=list)


def check(source: str, names: Collection[str]) -> frozenset[str]:
    """Check what a source names, and bound what it costs.

    Args:
        source: A CEL expression that parses.
        names: The variables there are.

    Returns:
        Those of them it uses.

    Raises:
        ExpressionError: It names something else, or could cost too much.
    """
    state = _Check(source, names)
    end = Word("sign", "", len(source))
    words = [_START, _START, *words_of(source), end, end]
    for i in range(2, len(words) - 2):
        _look(state, words[i - 2], words[i - 1], words[i], words[i + 1])
        if words[i].text == EVENT and words[i - 1].text != ".":
            _fields(source, words, i + 1)
        if words[i].text == "matches" and words[i + 1].text == "(":
            _pattern(source, words, i)
    limit = MAX_GROWTH[state.depth]
    if len(state.growth) > limit:
        where = ("", " beside map, filter, exists or all", " beside one of those within another")
        told = f"at most {limit} `+` of what is not written out, or commas in lists of such,"
        raise fault(source, state.growth[limit].start, told + where[state.depth])
    return frozenset(state.used)


def _look(state: _Check, second: Word, before: Word, word: Word, after: Word) -> None:
    """See one word between its neighbours; `second` stands before `before`."""
    if state.open and word.text not in (")", "]", "}"):
        state.open[-1].empty = False
    if state.depth == 2 and sum(bracket.macro for bracket in state.open) == 2:
        _look_within(state, word, after)
    if word.kind == "name":
        _name(state, before, word, after)
    elif word.text in ("(", "[", "{"):
        _open(state, second, before, word)
    elif word.text in (")", "]", "}"):
        _close(state)
    elif word.text == "," and state.open:
        state.open[-1].commas += 1
    elif word.text == "+" and after.kind not in ("text", "number"):
        state.growth.append(word)
    elif word.text in (".", "`") and not _ends_value(before):
        raise fault(state.source, word.start, "write names plainly: no point or quote before them")


def _look_within(state: _Check, word: Word, after: Word) -> None:
    """Bound what is evaluated for each pair of two lists' elements."""
    state.inner_words += 1
    state.inner_calls += word.kind == "name" and after.text == "(" and word.text != "has"
    if state.inner_words > MAX_INNER_WORDS or state.inner_calls > MAX_INNER_CALLS:
        raise fault(
            state.source,
            word.start,
            f"at most {MAX_INNER_WORDS} words and {MAX_INNER_CALLS} functions other than has may "
            "stand inside of two of map, filter, exists and all",
        )


def _ends_value(word: Word) -> bool:
    return word.kind != "sign" or word.text in (")", "]", "}")


def _name(state: _Check, before: Word, word: Word, after: Word) -> None:
    if before.text == "." or word.text in _CONSTANTS:
        return
    if after.text == "(":
        return
    for around in state.open:
        around.constant = False
    bracket = state.open[-1] if state.open else None
    if bracket and bracket.macro and bracket.opening is before:
        if word.text in state.names or any(b.bound == word.text for b in state.open):
            raise fault(state.source, word.start, f"{word.text} names a value already: rename it")
        bracket.bound = word.text
    elif not any(b.bound == word.text for b in state.open):
        if word.text not in state.names:
            known = ", ".join(sorted(state.names)) or "no names"
            raise fault(state.source, word.start, f"unknown name {word.text}: there is {known}")
        state.used.add(word.text)


def _open(state: _Check, second: Word, before: Word, word: Word) -> None:
    bracket = _Bracket(word)
    if word.text == "(" and before.kind == "name" and before.text not in _CONSTANTS:
        bracket.function, bracket.method = before.text, second.text == "."
        _call(state, bracket, before)
    elif word.text == "{" and _ends_value(before):
        raise fault(state.source, before.start, "messages can't be built: write a map or a list")
    else:
        bracket.literal = word.text == "{" or (word.text == "[" and not _ends_value(before))
    if len(state.open) >= MAX_BRACKETS:
        raise fault(state.source, word.start, f"more than {MAX_BRACKETS} brackets deep")
    state.open.append(bracket)


def _call(state: _Check, bracket: _Bracket, name: Word) -> None:
    if not bracket.macro:
        if bracket.function not in ARGUMENTS:
            raise fault(state.source, name.start, f"unknown function {bracket.function}")
        return
    state.macros += 1
    state.copying += bracket.function in _COPYING_MACROS
    if state.macros > MAX_MACROS or state.copying > MAX_COPYING_MACROS:
        told = f"at most {MAX_MACROS} of map, filter, exists and all, {MAX_COPYING_MACROS} of the "
        raise fault(state.source, name.start, told + "first two")
    around = sum(open_bracket.macro for open_bracket in state.open)
    state.depth = max(state.depth, around + 1)
    if around > 1 or (around and bracket.function not in _INNER_MACROS):
        raise fault(
            state.source,
            name.start,
            f"{bracket.function} is too deep: inside of one of map, filter, exists and all may "
            "stand exists, exists_one and all, and nothing of the kind inside of that",
        )


def _close(state: _Check) -> None:
    bracket = state.open.pop()
    if bracket.literal and not bracket.constant:
        state.growth.extend([bracket.opening] * bracket.commas)
    if not bracket.function:
        return
    arguments = 0 if bracket.empty else bracket.commas + 1
    if bracket.macro:
        least, most = 2, _MACROS[bracket.function]
    else:
        least, most = ARGUMENTS[bracket.function]
        arguments += bracket.method
    if not least <= arguments <= most:
        raise fault(
            state.source,
            bracket.opening.start,
            f"{bracket.function} takes {least if least == most else f'{least} to {most}'} "
            f"arguments, not {arguments}" + (", with what stands before" if bracket.method else ""),
        )


def _fields(source: str, words: list[Word], at: int) -> None:
    """Refuse fields that no event has: a condition with a slip in it would fail on every event."""
    fields = EVENT_FIELDS
    while fields and words[at].text == "." and words[at + 2].text != "(":
        name = words[at + 1]
        if name.text not in fields:
            raise fault(source, name.start, f"unknown field {name.text}: events have none so named")
        fields, at = fields[name.text], at + 2


def _pattern(source: str, words: list[Word], at: int) -> None:
    """Bound what a pattern costs: it is compiled anew at each evaluation, and classes are large."""
    name, _, pattern, closing = words[at : at + 4]
    if words[at - 1].text != "." or pattern.kind != "text" or closing.text != ")":
        raise fault(
            source, name.start, "write matches as text.matches('pattern'), with no variable"
        )
    if len(pattern.text) > MAX_PATTERN or _COSTLY_PATTERN.search(pattern.text):
        raise fault(
            source,
            pattern.start,
            f"patterns have at most {MAX_PATTERN} characters, no {{, and at most two classes such "
            r"as \w: write [a-z0-9] instead",
        )
    try:
        cel.evaluate(f"''.matches({pattern.text})")
    except Exception:
        raise fault(source, pattern.start, "this is no valid pattern (RE2 syntax)") from None
