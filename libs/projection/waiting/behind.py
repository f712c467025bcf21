"""Why a wait ended without what it waited for, and what a caller is told then."""

from collections.abc import Iterator
from contextlib import contextmanager

from libs.rpc import errors


class Behind(Exception):
    """A projection did not get there in time.

    Attributes:
        projection: Which one.
        position: How far it came.
        halt_reason: Why it halted, or empty when it is just slow.
    """

    def __init__(self, projection: str, position: int, halt_reason: str = "") -> None:
        super().__init__(f"{projection} came to position {position}")
        self.projection = projection
        self.position = position
        self.halt_reason = halt_reason


class Paused(Behind):
    """A projection is paused, and does not get there until it is resumed."""


class Building(Behind):
    """This release's generation of a projection is being built: there is nothing to read yet."""


@contextmanager
def waiting_errors(after_position: int) -> Iterator[None]:
    """Turn what a wait raises into what a caller can act on.

    Args:
        after_position: What is waited for.

    Raises:
        CallError: VIEWS_BUILDING, PROJECTION_PAUSED, PROJECTION_HALTED or PROJECTION_BEHIND.
    """
    try:
        yield
    except Building as error:
        raise errors.views_building(error.projection) from error
    except Paused as error:
        raise errors.projection_paused(error.projection) from error
    except Behind as error:
        if error.halt_reason:
            raise errors.projection_halted(error.projection) from error
        raise errors.projection_behind(error.projection, error.position, after_position) from error
