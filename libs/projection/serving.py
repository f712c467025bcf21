"""Which generation of each projection a process reads, and how its connections find the tables."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from libs.projection.generations.generation import PUBLIC, Generation
from libs.projection.positions import Positions
from libs.projection.projection import Connection

_MOST_SESSIONS: Final = 1000


class Serving:
    """Knows the generation that answers for each projection, in this process's fold versions.

    A process takes up a switch by itself, and only once the new generation has come as far as it
    ever heard of the one before: so no read that waited for a position goes back behind it.

    Args:
        folds: The fold version of each view that the process reads. What is not named is read
            whatever its version, as reactors are: they have one generation.
        qualified: How the names of projections begin whose tables are always named with their
            schema, because many of one shape are read at once.
        complete: Whether nothing but `folds` has to be read before the process is ready; else
            whoever knows the rest says so by `need`.

    Attributes:
        positions: How far generations came, as heard.
        ready: Set once there is a generation of each named projection to read.
        changed: Set when generations, ranges or pauses changed. Who waits for it clears it.
    """

    def __init__(
        self,
        folds: Mapping[str, int] | None = None,
        *,
        qualified: str = "scores:",
        complete: bool = True,
    ) -> None:
        self.positions = Positions()
        self.ready = asyncio.Event()
        self.changed = asyncio.Event()
        self._folds = dict(folds or {})
        self._needed = set(self._folds)
        self._qualified = qualified
        self._complete = complete
        self._known: dict[int, Generation] = {}
        self._paused: dict[str, str] = {}
        self._answering: dict[str, Generation] = {}
        self._coming: dict[str, Generation] = {}
        self._search_path = PUBLIC
        # By the server's process: which session that is, and its search path.
        self._sessions: dict[int, tuple[object, str]] = {}

    @property
    def folds(self) -> Mapping[str, int]:
        """The fold version of each view that the process reads."""
        return self._folds

    @property
    def is_ready(self) -> bool:
        """Whether the process can answer from all that it reads."""
        return self.ready.is_set()

    @property
    def missing(self) -> str:
        """A projection that can't be read yet, or nothing."""
        rest = "" if self._complete else self._qualified.rstrip(":")
        return next((name for name in sorted(self._needed) if name not in self._answering), rest)

    def generation(self, projection: str) -> Generation | None:
        """Return the generation that answers for a projection; None while there is none."""
        return self._answering.get(projection)

    def schema(self, projection: str) -> str:
        """Return the schema of a projection's tables, for statements that name it."""
        answers = self._answering.get(projection)
        return answers.schema if answers is not None else PUBLIC

    def is_building(self, projection: str) -> bool:
        """Tell whether a projection can't be read, because only other releases' can."""
        return projection not in self._answering and any(
            one.projection == projection for one in self._known.values()
        )

    def is_paused(self, projection: str) -> bool:
        """Tell whether nobody folds a projection until it is resumed."""
        return projection in self._paused

    def kept(self) -> list[Generation]:
        """Return every generation that has tables, the oldest first."""
        known = sorted(self._known.items())
        return [one for _, one in known if one.state != "failed"]

    def watch(self, projection: str, version: int) -> None:
        """Read one more view, in a fold version; it may have no generation yet."""
        self._folds[projection] = version
        self._choose()

    def need(self, projections: Mapping[str, int]) -> None:
        """Read these views too, and be ready once they and all that was named can be read.

        Args:
            projections: The fold version of each.
        """
        self._folds.update(projections)
        self._needed.update(projections)
        self._complete = True
        self._choose()

    def unwatch(self, projection: str) -> None:
        """Read a view no more."""
        self._folds.pop(projection, None)
        self._needed.discard(projection)

    def take_in(self, generations: Iterable[Generation], paused: Mapping[str, str]) -> None:
        """Take in what the database says; positions are taken in before.

        Args:
            generations: Every one that there is.
            paused: Why projections are paused, by name.
        """
        self._known = {one.id: one for one in generations}
        self._paused = dict(paused)
        self._choose()

    def heard_position(self) -> None:
        """Take up a switch that waited until its generation came so far."""
        if self._coming:
            self._choose()

    async def setup(self, connection: Connection) -> None:
        """Make a connection find the tables that answer; for the `setup` of a pool.

        It asks the server only when the connection does not do so already.
        """
        process, session = connection.get_server_pid(), connection.get_settings()
        wanted = (session, self._search_path)
        if self._sessions.get(process) == wanted:
            return
        await connection.execute(f"SET search_path TO {wanted[1]}")
        if len(self._sessions) >= _MOST_SESSIONS:  # of connections that ended
            self._sessions.clear()
        self._sessions[process] = wanted

    def _choose(self) -> None:
        self._coming = {}
        answers = {one.projection: one for one in self.kept() if self._answers(one)}
        for projection, one in answers.items():
            if self._may_answer(one):
                self._answering[projection] = one
            else:
                self._coming[projection] = one
        for projection, one in list(self._answering.items()):
            # Dropped, or of another version since `watch`.
            if one.id not in self._known or not self._is_ours(one):
                del self._answering[projection]
        schemas = {
            one.schema
            for one in self._answering.values()
            if not one.projection.startswith(self._qualified)
        }
        self._search_path = ", ".join([*sorted(schemas - {PUBLIC}), PUBLIC])
        if not self.missing:
            self.ready.set()

    def _answers(self, one: Generation) -> bool:
        return one.state == "serving" and self._is_ours(one)

    def _is_ours(self, one: Generation) -> bool:
        return self._folds.get(one.projection, one.fold_version) == one.fold_version

    def _may_answer(self, one: Generation) -> bool:
        now = self._answering.get(one.projection)
        if now is None or now.id == one.id or now.id not in self._known:
            return True
        if not self._is_ours(now):
            return True
        return self.positions.of(one.id) >= self.positions.of(now.id)
