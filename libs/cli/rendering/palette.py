"""The few colours and symbols, each with one meaning on every screen.

Without colour nothing is lost: the symbol and the word next to it say the same. The symbols are
one cell wide in every terminal; none has an emoji form.
"""

CUSTOMER = "cyan"
GOOD = "green"
BAD = "red"
ATTENTION = "yellow"
COMPANY = "default"
QUIET = "dim"
STRONG = "bold"

SAID_BY_CUSTOMER = "●"
SAID_BY_COMPANY = "○"
BETWEEN_CUSTOMERS = "◎"
WITHIN_COMPANY = "◌"
ORDER = "◆"
USE = "▪"
CASE = "■"
LEARNED = "+"
NOTE = "✎"
SIGNAL = "▲"
OPEN = "□"
KEPT = "✓"
BROKEN = "✗"
MOVED = "↻"
DASH = WITHDRAWN = "–"  # noqa: RUF001 (a dash, and meant)
TIMES = "×"  # noqa: RUF001 (a multiplication sign, and meant)
PLACE = "▸"
PAYMENT = "¤"
CUSTOM = "◇"
LEVEL = "↕"
TOLD = "»"
ARROW = "→"
RETRACTED = "↶"
ERASED = "∅"
INCOMPLETE = "◐"
IDENTITY = "⊙"
