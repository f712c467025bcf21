"""What a backup holds, what a restore replaces, and what came of either."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from rich import box
from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from libs.backup import Dumped, Manifest, Present, Restored
from libs.cli.rendering import palette, words


def backed_up(
    dumped: Dumped, directory: Path, keys: Path | None, *, secrets: str | None
) -> RenderableType:
    """Lays out what was backed up, and what is not in it.

    Args:
        dumped: What was written.
        directory: Where.
        keys: Where the data keys were written; None: nowhere.
        secrets: Where the secrets are that it needs; None: that is not known here.
    """
    manifest = dumped.manifest
    grid = _grid()
    grid.add_row("in", Text(str(directory), overflow="fold"))
    grid.add_row("store id", _name(manifest))
    grid.add_row("line", Text.assemble(*_line(manifest)))
    grid.add_row("took", _took(dumped))
    for part in manifest.parts:
        rows = [_rows(table.rows, table.table) for table in part.tables]
        grid.add_row(part.name, Text(" · ".join(rows)))
    grid.add_row("data keys", _keys(dumped, keys))
    title = f"{palette.KEPT} Backed up {words.count(manifest.store.position, 'event')}"
    return Group(Text(), Text(title, style=f"bold {palette.GOOD}"), Text(), grid, _warning(secrets))


def about_to_restore(
    manifest: Manifest, present: Present | None, former: Mapping[str, str], *, now: datetime
) -> RenderableType:
    """Lays out what is about to be restored, and what that replaces.

    Args:
        manifest: The backup's.
        present: The store that is there; None: there is none, or an empty one.
        former: The databases that are there and change their names, by part.
        now: The present, in the reader's time zone.
    """
    grid = _grid()
    made = words.when(manifest.created_at.astimezone(now.tzinfo), now)
    grid.add_row("backup", Text(f"{words.count(manifest.store.position, 'event')}, {made}"))
    grid.add_row("store id", _name(manifest))
    if present is None:
        grid.add_row("replaces", Text("nothing: no event is recorded here"))
    else:
        here = f"{words.count(present.position, 'event')} of the store {present.store_id.hex}"
        grid.add_row("replaces", Text(here, overflow="fold"))
        grid.add_row("loses", _loss(manifest, present))
    if former:
        grid.add_row("keeps", Text("what is replaced, under other names: " + ", ".join(former)))
    return Group(Text(), grid, Text())


def loss(manifest: Manifest, present: Present) -> str:
    """Returns which events of the store that is there the restored one will not have."""
    since = present.position - manifest.store.position
    if not present.continues:
        if since >= 0 or present.store_id != manifest.store.store_id:
            every = words.count(present.position, "event")
            return f"{every}: this is another line than the backup's"
        return "nothing, if this is the same line: it ends before the backup does"
    if since == 0:
        return "nothing: no event was recorded since the backup"
    return f"{words.count(since, 'event')}, recorded since the backup"


def _loss(manifest: Manifest, present: Present) -> Text:
    told = loss(manifest, present)
    return Text(told, style="" if told.startswith("nothing:") else palette.ATTENTION)


def restored(
    result: Restored, manifest: Manifest, present: Present | None, *, command: str, feed: bool
) -> RenderableType:
    """Lays out what was restored and what to do now.

    Args:
        result: What became of it.
        manifest: The backup's.
        present: The store that was replaced.
        command: How the reader calls `touchline`.
        feed: Whether the feed's stream was removed; it is ours then.
    """
    grid = _grid()
    grid.add_row("store id", Text(f"{result.store_id.hex}, a new one"))
    if present is not None:
        grid.add_row("lost", _loss(manifest, present))
    for name in result.kept.values():
        grid.add_row("kept", Text(name, overflow="fold"))
    title = f"{palette.KEPT} Restored {words.count(manifest.store.position, 'event')}"
    steps = Text("\n").join(_steps(command, result, feed=feed))
    return Group(Text(), Text(title, style=f"bold {palette.GOOD}"), Text(), grid, Text(), steps)


def _steps(command: str, result: Restored, *, feed: bool) -> Iterator[Text]:
    yield Text("Now", style=palette.STRONG)
    if feed:
        yield _step(f"{command} up", "what was folded further than the backup folds anew by itself")
    else:
        yield _step("start the services", "what was folded further folds anew by itself")
        yield _step(f"{command} feed restart", "the stream belongs to the old store")
    yield _step(f"{command} verify", "proves that all holds")
    yield Text("  Have the sources send again what they sent since the backup.")
    if result.kept:
        yield Text("  Once nobody misses what was replaced:", style=palette.QUIET)
        for name in result.kept.values():
            yield Text(f"  DROP DATABASE {name};", style=palette.QUIET, overflow="fold")


def _step(command: str, why: str) -> Text:
    return Text.assemble((f"  {command}", palette.CUSTOMER), (f"  {why}", palette.QUIET))


def _warning(secrets: str | None) -> RenderableType:
    where = f"They are in {secrets}." if secrets else "They are not in this home."
    text = Text.assemble(
        ("The secrets are not in it. ", palette.STRONG),
        "Without the master key nothing of it opens; without the identity secret nobody is found. "
        f"{where} Keep a copy, and keep it apart from the backup: together they open everything.",
    )
    return Panel(
        text,
        title=Text(f" {palette.SIGNAL} keep the secrets ", style=f"bold {palette.ATTENTION}"),
        title_align="left",
        box=box.ROUNDED,
        border_style=palette.ATTENTION,
        padding=(0, 2),
    )


def _line(manifest: Manifest) -> Iterator[Text]:
    yield Text(f"1 to {manifest.store.position:,}, chain {manifest.store.chain.hex()[:16]}")
    yield Text("  recomputed over every event", style=palette.QUIET)


def _name(manifest: Manifest) -> Text:
    told = Text(manifest.store.store_id.hex)
    for former in reversed(manifest.store.ancestors):
        told.append(f", restored from {former.store_id.hex[:8]} at {former.position:,}")
    return told


def _took(dumped: Dumped) -> Text:
    size = sum(table.size for part in dumped.manifest.parts for table in part.tables)
    size += sum(table.size for table in dumped.keys.tables) if dumped.keys else 0
    told = Text(f"{dumped.seconds:,.1f} s, {decimal(size)}")
    if dumped.seconds >= 1:
        rate = dumped.manifest.store.position / dumped.seconds
        told.append(f", {rate:,.0f} events/s")
    return told


def _keys(dumped: Dumped, keys: Path | None) -> Text:
    if dumped.keys is None or keys is None:
        return Text("left out: nothing opens without them", style=palette.ATTENTION)
    told = Text(f"{dumped.keys.table.rows:,}, apart in {keys}", overflow="fold")
    return told.append("  whoever was erased is in older ones", style=palette.QUIET)


def _rows(number: int, table: str) -> str:
    return f"{table} {number:,}"


def _grid() -> Table:
    grid = Table.grid(padding=(0, 3, 0, 0))
    grid.add_column(style=palette.QUIET, no_wrap=True)
    grid.add_column()
    return grid
