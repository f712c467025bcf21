"""Takes a condition apart, so that one can say which part of it was false."""

from libs.expressions.tokens import words_of


def conjuncts_of(source: str) -> list[str]:
    """Return the parts of a CEL expression that must all be true; itself, if it has none.

    Args:
        source: An expression that compiles.
    """
    depth, start, parts = 0, 0, list[str]()
    for word in words_of(source):
        if word.kind != "sign":
            continue
        if word.text in "([{":
            depth += 1
        elif word.text in ")]}":
            depth -= 1
        elif depth == 0 and word.text in ("||", "?"):
            return [source.strip()]  # it binds less than &&
        elif depth == 0 and word.text == "&&":
            parts.append(source[start : word.start].strip())
            start = word.end
    return [*parts, source[start:].strip()]
