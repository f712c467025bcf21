"""What the importer's tests share: a recording function, and imports of a few lines."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from libs.cli.importing import ImportResult, Into, import_file
from touchline.events.v1.event_pb2 import Event
from touchline.ingestion.v1.ingestion_pb2 import Outcome, Verdict

MAPPING = """
[file]
format = "csv"

[event]
source = "shop"
occurred_at = { column = "at", time_zone = "UTC" }

[[identities]]
kind = "email"
column = "email"

[fact.order_changed]
order_id = { column = "order" }
"""


class Store:
    """Records events as the service does: an id once, with the first content."""

    def __init__(self) -> None:
        self.events: dict[str, Event] = {}
        self.batches: list[int] = []

    async def record(self, events: Sequence[Event]) -> Sequence[Verdict]:
        self.batches.append(len(events))
        return [Verdict(event_id=event.event_id, outcome=self._outcome(event)) for event in events]

    def _outcome(self, event: Event) -> Outcome.ValueType:
        first = self.events.setdefault(event.event_id, event)
        if first is event:
            return Outcome.OUTCOME_RECORDED
        same = first == event
        return Outcome.OUTCOME_DUPLICATE if same else Outcome.OUTCOME_CONFLICT

    @property
    def all(self) -> list[Event]:
        return list(self.events.values())


class Files:
    """Writes a file and a mapping into a folder and imports them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.console = Console(file=(folder / "console.txt").open("w"), width=200)

    async def imported(
        self,
        content: str | bytes,
        mapping: str = MAPPING,
        store: Store | None = None,
        *,
        live: bool = False,
        batch: int = 1000,
    ) -> tuple[list[Event], ImportResult]:
        store = store or Store()
        path, mapping_path = self.folder / "rows.txt", self.folder / "mapping.toml"
        raw = content.encode() if isinstance(content, str) else content
        path.write_bytes(raw)
        mapping_path.write_text(mapping, "utf-8")
        into = Into(store.record, self.console, live=live, batch=batch)
        result = await import_file(path, mapping_path, into)
        return store.all, result

    def printed(self) -> str:
        self.console.file.flush()
        return (self.folder / "console.txt").read_text()

    def reported(self) -> list[str]:
        report = self.folder / "rows.txt.rejected.csv"
        return report.read_text().splitlines() if report.exists() else []
