"""A projection knows whether its line goes on in a restored store (invariant 6)."""

import pytest

from libs.eventstore.chain import Ancestor, Head, Lineage
from libs.projection.restored import Standing, standing

CHAIN, OTHER = b"c" * 32, b"o" * 32
FIRST, SECOND, THIRD = (name * 16 for name in (b"1", b"2", b"3"))
# The first store's backup ended at 100, the second's, which was restored from it, at 150.
LINEAGE = Lineage(
    Head(THIRD, 180, CHAIN), (Ancestor(FIRST, 100, CHAIN), Ancestor(SECOND, 150, CHAIN))
)


@pytest.mark.parametrize(
    ("store_id", "position", "chain", "expected"),
    [
        (FIRST, 0, CHAIN, Standing.GOES_ON),
        (FIRST, 100, CHAIN, Standing.GOES_ON),
        (FIRST, 101, CHAIN, Standing.CUT_OFF),
        (FIRST, 100, OTHER, Standing.CUT_OFF),
        (SECOND, 150, CHAIN, Standing.GOES_ON),
        (SECOND, 151, CHAIN, Standing.CUT_OFF),
        (SECOND, 190, b"", Standing.CUT_OFF),
        (THIRD, 180, CHAIN, Standing.GOES_ON),
        (THIRD, 180, OTHER, Standing.CONTRADICTED),
        (THIRD, 190, b"", Standing.CONTRADICTED),
        (b"x" * 16, 1, CHAIN, Standing.STRANGE),
        (b"x" * 16, 190, b"", Standing.STRANGE),
    ],
)
def test_a_place_on_another_stores_line_goes_on_up_to_where_that_ones_backup_ended(
    store_id: bytes, position: int, chain: bytes, expected: Standing
) -> None:
    assert standing(Head(store_id, position, CHAIN), LINEAGE, chain) is expected
