"""The checker: what callers were told, against everything that can be read back.

Pure: it is given the history, the store's rows, the feed's batches and the projections' rows, and
says claim by claim whether they agree. It shares no code with the store: chain and order are
computed here.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from tests.faults.history import (
    CONFLICT,
    DUPLICATE,
    RECORDED,
    REJECTED,
    UNIT_REFUSED,
    VERSION_TAKEN,
    History,
)

MAX_PROBLEMS: Final = 5
_ACKNOWLEDGED: Final = (RECORDED, DUPLICATE)


class Row(NamedTuple):
    """An event as the store has it.

    Attributes:
        position: Its place.
        event_id: Its id.
        content: What `history.content_of` says of it, opened; empty when it does not open.
        content_hash: The store's own.
        chain: The chain after it.
        record: The sealed record.
        stream: The decision stream's UUID, or empty.
        version: Its version in that stream.
        decision: What tells it from every other decision, for decisions of our services: its kind,
            its cause, its rule and so on; empty for what callers send.
        cause: The event id of the decision's cause, or empty.
        of_service: Whether only our own services may record such an event.
    """

    position: int
    event_id: str
    content: bytes
    content_hash: bytes
    chain: bytes
    record: bytes
    stream: str = ""
    version: int = 0
    decision: tuple[str, ...] = ()
    cause: str = ""
    of_service: bool = False


class Batch(NamedTuple):
    """A message of the feed: (content hash, record) of each event."""

    store_id: bytes
    previous_chain: bytes
    chain: bytes
    first: int
    last: int
    events: Sequence[tuple[bytes, bytes]]


class Folded(NamedTuple):
    """A table of a projection: its rows as ordered text, or what stands for them, live and anew."""

    live: Sequence[str]
    anew: Sequence[str]


@dataclass(slots=True)
class Evidence:
    """Everything that was read back after the storm.

    Attributes:
        history: What callers sent and were told.
        store_id: The store's.
        head: The position and chain that the store says it ends with.
        rows: The line, as it was read.
        feed: The feed, as it was read.
        projections: By the projection's name, each of its tables by name.
        left: What waits or lies dead in outboxes or is parked, by name: nothing should.
        told: What the product's own verification found, by its name.
        unsettled: Who had not reached the head long after everything was up again, and why.
    """

    history: History
    store_id: bytes
    head: tuple[int, bytes]
    rows: Sequence[Row]
    feed: Sequence[Batch]
    projections: Mapping[str, Mapping[str, Folded]] = field(default_factory=dict)
    left: Mapping[str, int] = field(default_factory=dict)
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unsettled: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Claim:
    """What must hold, and what speaks against it.

    Attributes:
        text: The claim.
        of: Of how many this was checked, in words.
        problems: Every contradiction; empty: it holds.
    """

    text: str
    of: str
    problems: Sequence[str]

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems


def check(evidence: Evidence) -> list[Claim]:
    """Return every claim and whether it holds."""
    history, rows = evidence.history, evidence.rows
    answers, sent = f"{len(history.answers):,} answers", f"{len(history.contents):,} ids"
    line, decisions = f"{len(rows):,} events", sum(bool(one.decision) for one in rows)
    streams = len({one.stream for one in rows if one.stream})
    claims: list[tuple[str, str, Callable[[Evidence], Iterator[str]]]] = [
        ("every acknowledged event is there once, as it was sent", answers, _acknowledged),
        ("what was refused is not on the line", answers, _refused),
        ("nothing is there that nobody sent", sent, _unsent),
        ("positions are 1 to n, each once", line, _positions),
        ("the chain is intact", line, _chain),
        ("acknowledged before another was sent: the smaller position", answers, _real_time),
        ("streams have one event per version, without a gap", f"{streams} streams", _streams),
        ("the feed continues the store", f"{len(evidence.feed):,} messages", _feed),
        ("no decision was made twice, none without its cause", f"{decisions:,}", _decisions),
        ("every projection reaches the head", "", lambda one: iter(one.unsettled)),
        ("nothing waits in an outbox, is dead or parked", f"{len(evidence.left)} places", _left),
    ]
    made = [Claim(text, of, list(find(evidence))) for text, of, find in claims]
    for name, tables in evidence.projections.items():
        count = f"{sum(len(one.anew) for one in tables.values()):,} rows"
        problems = [f"{table}: {told}" for table in tables for told in _folded(tables[table])]
        made.append(Claim(f"{name}: every table = folded anew", count, problems))
    told = [f"{name}: {problem}" for name, found in evidence.told.items() for problem in found]
    verified = f"{len(evidence.told)} verifications"
    made.append(Claim("the product's own verification finds nothing", verified, told))
    return made


def _acknowledged(evidence: Evidence) -> Iterator[str]:
    by_id: dict[str, list[Row]] = {}
    for row in evidence.rows:
        by_id.setdefault(row.event_id, []).append(row)
    for answer in evidence.history.answers:
        if answer.outcome not in _ACKNOWLEDGED:
            continue
        found = by_id.get(answer.sent.event_id, [])
        name = f"event {answer.sent.event_id}, {answer.outcome} at {answer.position}"
        if len(found) != 1:
            yield f"{name}: it is there {len(found)} times"
            continue
        (row,) = found
        if row.position != answer.position:
            yield f"{name}: it stands at {row.position}"
        elif row.content != answer.sent.content:
            yield f"{name}: it has another content"
        elif (row.stream, row.version) != (answer.sent.stream, answer.sent.version):
            yield f"{name}: it is version {row.version} of stream {row.stream or '–'}"  # noqa: RUF001 (a dash, and meant)


def _refused(evidence: Evidence) -> Iterator[str]:
    on_line = {row.event_id: row for row in evidence.rows}
    recorded = {
        (answer.sent.event_id, answer.sent.content)
        for answer in evidence.history.answers
        if answer.outcome in _ACKNOWLEDGED
    }
    for answer in evidence.history.answers:
        row, sent = on_line.get(answer.sent.event_id), answer.sent
        there = row is not None and row.content == sent.content
        name = f"event {sent.event_id}, answered {answer.outcome}"
        if answer.outcome in (CONFLICT, REJECTED) and there:
            yield f"{name}, is there with that content"
        elif answer.outcome == CONFLICT and (row is None or row.position != answer.position):
            yield f"{name} with {answer.position}, where the first is not"
        elif answer.outcome in (VERSION_TAKEN, UNIT_REFUSED) and there:
            yield f"{name}, is there"
        elif answer.outcome == REJECTED and (sent.event_id, sent.content) in recorded:
            yield f"{name}, was also answered that it is recorded"


def _unsent(evidence: Evidence) -> Iterator[str]:
    contents = evidence.history.contents
    for row in evidence.rows:
        known = contents.get(row.event_id)
        if known is None and not row.of_service:
            yield f"event {row.event_id} at {row.position} was never sent"
        elif known is not None and row.content not in known:
            yield f"event {row.event_id} at {row.position} was never sent with that content"


def _positions(evidence: Evidence) -> Iterator[str]:
    for expected, row in enumerate(evidence.rows, 1):
        if row.position != expected:
            yield f"position {expected} has the event of position {row.position}"
            return  # all that follow are shifted
    if evidence.head[0] != len(evidence.rows):
        yield f"the head is {evidence.head[0]}, and there are {len(evidence.rows)} events"


def _chain(evidence: Evidence) -> Iterator[str]:
    chain = bytes(32)
    for row in evidence.rows:
        chain = sha256(chain + row.content_hash).digest()
        if chain != row.chain:
            yield f"it breaks at {row.position}"
            return
    if evidence.head[1] != chain:
        yield "the head has another chain than the last event"


def _real_time(evidence: Evidence) -> Iterator[str]:
    """An event that was known to be there before another was first sent stands before it."""
    first_sent = evidence.history.first_sent
    acknowledged = sorted(
        (answer.ended, answer.position, answer.sent.event_id)
        for answer in evidence.history.answers
        if answer.outcome in _ACKNOWLEDGED
    )
    sent = sorted(
        (first_sent[row.event_id], row.position, row.event_id)
        for row in evidence.rows
        if row.event_id in first_sent
    )
    highest, holder, place = 0, "", 0
    for at, position, event_id in sent:
        while place < len(acknowledged) and acknowledged[place][0] < at:
            if acknowledged[place][1] > highest:
                _, highest, holder = acknowledged[place]
            place += 1
        if position <= highest and event_id != holder:
            yield (
                f"event {event_id} at {position} was first sent after {holder} at {highest} "
                "was acknowledged"
            )


def _streams(evidence: Evidence) -> Iterator[str]:
    versions: dict[str, list[int]] = {}
    for row in evidence.rows:
        if row.stream:
            versions.setdefault(row.stream, []).append(row.version)
    for stream, found in versions.items():
        # In the order of the line: each writer names the version after the newest.
        start = found[0]
        if start not in (0, 1) or found != list(range(start, start + len(found))):
            twice = [version for version, count in Counter(found).items() if count > 1]
            what = f"has twice: {twice[:3]}" if twice else "has a gap, or is out of order"
            yield f"stream {stream} {what}"


def _feed(evidence: Evidence) -> Iterator[str]:
    rows = evidence.rows
    if not evidence.feed:
        yield "it is empty"
        return
    last: Batch | None = None
    for batch in evidence.feed:
        name = f"the message with {batch.first} to {batch.last}"
        if batch.store_id != evidence.store_id:
            yield f"{name} comes from another store"
        if last is not None and (batch.first, batch.previous_chain) != (last.last + 1, last.chain):
            yield f"{name} follows one that ends at {last.last}"
        last = batch
        if not 1 <= batch.first <= batch.last <= len(rows):
            yield f"{name} is not on the line"
            continue
        stored = rows[batch.first - 1 : batch.last]
        if [(one.content_hash, one.record) for one in stored] != list(batch.events):
            yield f"{name} has other events than the store"
        before = rows[batch.first - 2].chain if batch.first > 1 else bytes(32)
        if (batch.previous_chain, batch.chain) != (before, stored[-1].chain):
            yield f"{name} has another chain than the store"
    if last is not None and last.last != evidence.head[0]:
        yield f"it ends at {last.last}, the store at {evidence.head[0]}"


def _decisions(evidence: Evidence) -> Iterator[str]:
    positions = {row.event_id: row.position for row in evidence.rows}
    made: dict[tuple[str, ...], int] = {}
    for row in evidence.rows:
        if row.of_service and not row.content:
            yield f"the decision at {row.position} does not open"
        if not row.decision:
            continue
        first = made.setdefault(row.decision, row.position)
        if first != row.position:
            yield f"the decision at {row.position} was made before, at {first}: {row.decision[0]}"
        if row.cause and positions.get(row.cause, row.position) >= row.position:
            yield f"the decision at {row.position} stands before its cause, or has none"


def _left(evidence: Evidence) -> Iterator[str]:
    for name, count in evidence.left.items():
        if count:
            yield f"{name}: {count:,}"


def _folded(folded: Folded) -> list[str]:
    if list(folded.live) == list(folded.anew):
        return []
    live, anew = Counter(folded.live), Counter(folded.anew)
    only_live, only_anew = list((live - anew).elements()), list((anew - live).elements())
    return [
        f"{len(only_live):,} rows only live, {len(only_anew):,} only anew"
        if only_live or only_anew
        else "the same rows, ordered otherwise",
        *(f"only live: {row[:200]}" for row in only_live[:2]),
        *(f"only anew: {row[:200]}" for row in only_anew[:2]),
    ]
