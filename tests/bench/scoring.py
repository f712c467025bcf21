"""How fast the engagement service counts, beside a bare COPY of the rows that it makes."""

from tests.bench.beside import BesideCopy
from tests.bench.report import Report
from tests.bench.scale import Scale
from tests.bench.stage import Stage


async def measure(report: Report, stage: Stage, scale: Scale, head: int) -> None:
    """Fold the scores of the shipped model and copy their contributions, round after round."""
    report.heading(f"Scores of the shipped model, alone, from position 0 to {head:,}")
    scores = BesideCopy(stage, "engagement", "scores", "contributions")
    with report.progress("rounds", scale.rounds) as advance:
        for number in range(scale.rounds):
            await scores.run()
            advance(number + 1)
    scores.report(report, "engagement_vs_copy", "history, opening what conditions look into, sums")
