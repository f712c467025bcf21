"""Expressions of rule authors in CEL, and templates with them; see docs/expressions.md.

condition = compile_expression("event.fact.amount.amount > 100.0", {"event"})
scope = Scope({"event": event_value(event)})
condition.test(scope)                                             ->  True
compile_template("{{ event.source }}: go", {"event"}).render(scope)  ->  "shop: go"
"""

from libs.expressions.errors import EvaluationError, ExpressionError
from libs.expressions.event_value import event_value
from libs.expressions.expression import Expression, Scope, compile_expression
from libs.expressions.formatting import shown
from libs.expressions.functions import distance_km, speed_kmh
from libs.expressions.reads import EVENTS, NOTHING, Reads, Shape, fields_read, together
from libs.expressions.template import Template, compile_template

__all__ = [
    "EVENTS",
    "NOTHING",
    "EvaluationError",
    "Expression",
    "ExpressionError",
    "Reads",
    "Scope",
    "Shape",
    "Template",
    "compile_expression",
    "compile_template",
    "distance_km",
    "event_value",
    "fields_read",
    "shown",
    "speed_kmh",
    "together",
]
