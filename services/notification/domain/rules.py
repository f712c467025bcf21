"""A rule made ready to be evaluated, or what is wrong with it.

The limits are those of the comments in touchline.notification.v1.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration

from libs.expressions import (
    EVENTS,
    NOTHING,
    Expression,
    ExpressionError,
    Reads,
    Shape,
    Template,
    compile_expression,
    compile_template,
    fields_read,
    together,
)
from services.notification.domain import rule_checks as checks
from services.notification.domain.calendars import Violation
from services.notification.domain.conjuncts import conjuncts_of
from services.notification.domain.customers import HIDDEN_TYPES, reaches_hidden, type_names
from touchline.events.v1.event_pb2 import EVENT_TYPE_INTERACTION
from touchline.events.v1.facts_pb2 import DIRECTION_INTERNAL
from touchline.notification.v1.notification_pb2 import Notice, RuleDefinition

NAMES: Final = frozenset({"event", "recent", "attributes", "consents", "scores", "now"})
"""What every expression may use."""

_OF_EVENT: Final = frozenset({"event"})
DAY_US: Final = 86_400_000_000
TOLD_OF_EVENT: Final = ("type", "at", "location")
"""The fields that are shown of a named value that is an event."""

_MAX_EXPRESSION: Final = 2000

Code = TypeVar("Code", Expression, Template)
_Compile = Callable[[str, Collection[str], Mapping[str, Shape]], Code]


class InvalidRule(ValueError):
    """A rule can't be published as it is.

    Attributes:
        violations: The path and description of each thing that is wrong.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        super().__init__("; ".join(f"{path}: {told}" for path, told in violations))
        self.violations = tuple(violations)


@dataclass(frozen=True, slots=True)
class CompiledNotice:
    """A notice, ready to be rendered.

    Attributes:
        definition: What it says.
        recipient: Gives the reference; None when the definition names the recipient.
        title: The headline.
        text: The text; None for the reason.
    """

    definition: Notice
    recipient: Expression | None
    title: Template
    text: Template | None


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule, ready to be evaluated.

    Attributes:
        definition: What it says.
        version: Its version.
        lets: Its named values, in their order.
        condition: What must be true; None: it always is.
        conjuncts: The parts of the condition that must all be true, with their sources.
        quick: Those of them that look at nothing but the event.
        reason: Why it matters.
        notices: Whom it tells.
        promise: What the customer may expect; None: nothing.
        needs: Those of NAMES that it uses.
        reads: What it reads of `event` and of those in `recent`, by these names.
        window_us: How far back `recent` reaches, in microseconds.
        max_age_us: How old an event may be, in microseconds.
    """

    definition: RuleDefinition
    version: int
    lets: tuple[tuple[str, Expression], ...]
    condition: Expression | None
    conjuncts: tuple[tuple[str, Expression], ...]
    quick: tuple[Expression, ...]
    reason: Template
    notices: tuple[CompiledNotice, ...]
    promise: Template | None
    needs: frozenset[str]
    reads: Mapping[str, Reads]
    window_us: int
    max_age_us: int

    @property
    def name(self) -> str:
        """The rule's name."""
        return self.definition.name


def compile_rule(
    definition: RuleDefinition, version: int = 0, path: str = "definition"
) -> CompiledRule:
    """Return a rule that is as the contract wants it, ready to be evaluated.

    Args:
        definition: What the rule says.
        version: Its version. Default: it has none yet.
        path: Of the definition in the request, for violations.

    Raises:
        InvalidRule: it is not.
    """
    compiler = _Compiler(definition, path)
    compiled = compiler.compile(version)
    if compiled is None:
        raise InvalidRule(compiler.found)
    return compiled


def reads_of(rules: Iterable[CompiledRule]) -> Mapping[str, Reads]:
    """Return what rules read of events, by the names that hold them."""
    return together([dict.fromkeys(EVENTS, NOTHING), *(rule.reads for rule in rules)])


class _Compiler:
    """Compiles one definition, and collects all that is wrong with it."""

    def __init__(self, definition: RuleDefinition, path: str) -> None:
        self.found = checks.violations_of(definition, path)
        self._definition = definition
        self._path = path
        self._names = set(NAMES)
        self._shapes: dict[str, Shape] = dict(EVENTS)

    def compile(self, version: int) -> CompiledRule | None:
        definition, path = self._definition, self._path
        lets = self._lets()
        condition = self._expression(definition.condition, f"{path}.condition")
        reason = self._template(definition.reason, f"{path}.reason")
        notices = self._notices()
        promise = self._template(definition.expect.promise, f"{path}.expect.promise")
        if not self.found:
            self._check_what_customers_see(lets)
        if self.found or reason is None:
            return None
        sources = conjuncts_of(definition.condition) if condition else []
        conjuncts = [(source, self._code(compile_expression, source)) for source in sources]
        given = [one for _, one in lets]
        codes = [*given, *[one.recipient for one in notices], condition]
        texts = [reason, promise, *[one.title for one in notices], *[one.text for one in notices]]
        reads = [one.followed.reads for one in codes if one]
        reads += [one.reads for one in texts if one]
        reads += [fields_read(one.followed.gives, TOLD_OF_EVENT) for one in given]
        return CompiledRule(
            definition=definition,
            version=version,
            lets=tuple(lets),
            condition=condition,
            conjuncts=tuple(conjuncts),
            quick=tuple(code for _, code in conjuncts if code.names <= _OF_EVENT),
            reason=reason,
            notices=tuple(notices),
            promise=promise,
            needs=frozenset(name for one in (*codes, *texts) if one for name in one.names) & NAMES,
            reads=together(reads),
            window_us=micros_of_duration(definition.window),
            max_age_us=micros_of_duration(definition.max_age) or DAY_US,
        )

    def _lets(self) -> list[tuple[str, Expression]]:
        lets = []
        for index, binding in enumerate(self._definition.let[: checks.MAX_LETS]):
            at = f"{self._path}.let[{index}]"
            expression = self._expression(binding.expression, f"{at}.expression")
            if binding.name in self._names:
                self.found.append((f"{at}.name", "names something else already; choose another"))
            # Known also when it is wrong: what uses it need not be said to be wrong as well.
            self._names.add(binding.name)
            if expression is not None:
                lets.append((binding.name, expression))
                self._shapes[binding.name] = expression.followed.gives
        return lets

    def _notices(self) -> list[CompiledNotice]:
        notices = []
        for index, notice in enumerate(self._definition.notices[: checks.MAX_NOTICES]):
            at = f"{self._path}.notices[{index}]"
            recipient = self._expression(notice.expression, f"{at}.expression")
            title = self._template(notice.title, f"{at}.title")
            text = self._template(notice.text, f"{at}.text")
            if title is not None:
                notices.append(CompiledNotice(notice, recipient, title, text))
        return notices

    def _expression(self, source: str, path: str) -> Expression | None:
        # That it is missing or too long is said already.
        if not source.strip() or len(source) > _MAX_EXPRESSION:
            return None
        return self._compiled(compile_expression, source, path)

    def _template(self, source: str, path: str) -> Template | None:
        return self._compiled(compile_template, source, path) if source.strip() else None

    def _compiled(self, compiler: _Compile[Code], source: str, path: str) -> Code | None:
        try:
            return self._code(compiler, source)
        except ExpressionError as error:
            told = f"line {error.line}, column {error.column}: {error.description}"
            self.found.append((path, told))
            return None

    def _code(self, compiler: _Compile[Code], source: str) -> Code:
        return compiler(source, self._names, self._shapes)

    def _check_what_customers_see(self, lets: Sequence[tuple[str, Expression]]) -> None:
        on, path = self._definition.on, self._path
        hidden = [number for number in on.types if number in HIDDEN_TYPES]
        if EVENT_TYPE_INTERACTION in on.types and DIRECTION_INTERNAL in on.directions:
            hidden.append(EVENT_TYPE_INTERACTION)
        if not hidden:
            return
        sources = {one.name: one.expression for one in self._definition.let}
        for at, templates in self._shown_to_customers():
            names = {name for one in templates for name in self._names_in(one)}
            used = _reached(names, lets)
            if reaches_hidden([sources[name] for name in used if name in sources], templates):
                told = (
                    f"tells a customer of {type_names(hidden)}, which customers may not see; "
                    "use no more of `event` than its time"
                )
                self.found.append((f"{path}.{at}", told))

    def _shown_to_customers(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the paths of what customers get to see, and its templates."""
        for index, notice in enumerate(self._definition.notices):
            if notice.customer:
                # Without a text of its own it tells the reason.
                yield f"notices[{index}]", [notice.title, notice.text or self._definition.reason]
        if self._definition.HasField("expect"):
            yield "expect.promise", [self._definition.expect.promise]

    def _names_in(self, template: str) -> frozenset[str]:
        return compile_template(template, self._names).names


def micros_of_duration(duration: Duration) -> int:
    """Return a duration in microseconds."""
    return duration.seconds * 1_000_000 + duration.nanos // 1000


def _reached(names: Iterable[str], lets: Sequence[tuple[str, Expression]]) -> set[str]:
    """Return names, and those that the named values among them use in turn."""
    reached = set(names)
    for name, expression in reversed(lets):
        if name in reached:
            reached |= expression.names
    return reached
