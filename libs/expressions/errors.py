"""What can go wrong with an expression, before and while it is evaluated."""


class ExpressionError(ValueError):
    """An expression or template does not compile.

    Attributes:
        line: Where, from 1.
        column: Where in that line, from 1.
        description: What is wrong, and what to do.
    """

    def __init__(self, line: int, column: int, description: str) -> None:
        super().__init__(f"line {line}, column {column}: {description}")
        self.line = line
        self.column = column
        self.description = description


class EvaluationError(Exception):
    """An expression failed on an event; the text is short and holds nothing of the event."""
