"""A projection beside what PostgreSQL could at best make of it: a bare COPY of the same rows."""

from tests.bench.copying import Copied, copied
from tests.bench.figures import median_figure
from tests.bench.folding import PROJECTING, Folded, folded
from tests.bench.report import Report
from tests.bench.stage import Stage


class BesideCopy:
    """Folds a projection, each time followed by a COPY of the rows that it made.

    Args:
        stage: Where the line and the databases are.
        service: Whose tables to fold into.
        projection: Which projection.
        table: The table into which its rows go.
    """

    def __init__(self, stage: Stage, service: str, projection: str, table: str) -> None:
        self._stage = stage
        self._service = service
        self._projection = projection
        self._table = table
        self._folds: list[Folded] = []
        self._copies: list[Copied] = []

    async def run(self, *, anew: bool = True) -> None:
        """Fold and copy once, from position 0 or on from where it came to."""
        fold = await folded(self._stage, self._service, self._projection, anew=anew)
        copy = await copied(
            *(self._stage.folded(self._service), self._table, fold.after, fold.up_to),
            empty=anew,
            settings=PROJECTING,
        )
        if copy.rows != fold.rows:
            raise AssertionError(f"{copy.rows} rows were copied, and {fold.rows} folded")
        self._folds.append(fold)
        self._copies.append(copy)

    def report(self, report: Report, ratio: str, does: str) -> None:
        """Add the speeds of both to a report, and the figure that compares them.

        Args:
            report: Takes the figures.
            ratio: The name of that figure.
            does: What the projection does, for its note.
        """
        last = self._folds[-1]
        note = f"{does}; {last.rows:,} rows; {last.cost}"
        speeds = [fold.speed for fold in self._folds]
        name = f"projection_{self._projection}"
        report.add(median_figure(name, speeds, "events/s", note, last.cores))
        note = "one COPY, the same rows, indexes and settings"
        speeds = [copy.speed for copy in self._copies]
        report.add(median_figure(f"copy_of_{self._table}_rows", speeds, "rows/s", note))
        pairs = zip(self._folds, self._copies, strict=True)
        ratios = [copy.seconds / fold.seconds for fold, copy in pairs]
        note = f"the COPY's time / that of {self._projection}"
        report.add(median_figure(ratio, ratios, "ratio", note))
