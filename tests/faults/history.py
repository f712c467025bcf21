"""What callers sent and what they were told, attempt by attempt, in memory and in a file."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, NamedTuple

from touchline.events.v1.event_pb2 import Event

RECORDED = "RECORDED"
DUPLICATE = "DUPLICATE"
CONFLICT = "CONFLICT"
REJECTED = "REJECTED"
VERSION_TAKEN = "VERSION_TAKEN"
UNIT_REFUSED = "UNIT_REFUSED"


class Sent(NamedTuple):
    """One event of an attempt: its id, its content, and its place in a stream, if it has one."""

    event_id: str
    content: bytes
    stream: str = ""
    version: int = 0


class Answer(NamedTuple):
    """What one event was answered.

    Attributes:
        sent: The event.
        outcome: RECORDED, DUPLICATE, CONFLICT, REJECTED, VERSION_TAKEN or UNIT_REFUSED.
        position: Its position, or 0.
        began: When the attempt began that was answered, in seconds of a clock that never jumps.
        ended: When the answer came.
    """

    sent: Sent
    outcome: str
    position: int
    began: float
    ended: float


@dataclass(slots=True)
class Attempt:
    """A call that is under way."""

    client: str
    sent: Sequence[Sent]
    began: float
    number: int


@dataclass(slots=True)
class History:
    """Everything that was sent and answered.

    Attributes:
        file: Where each attempt and answer is written as a line of JSON; None: nowhere.
        contents: By event id: every content that was ever sent under it.
        first_sent: By event id: when it was first sent.
        answers: In the order in which they came.
        attempts: How many calls there were.
        failures: How many of them failed, by what they failed with.
        retries: How many calls repeated one that had failed.
        outcomes: How many events were answered what.
        streams: By event id: the stream and version that it was sent for.
    """

    file: IO[str] | None = None
    contents: dict[str, set[bytes]] = field(default_factory=dict)
    first_sent: dict[str, float] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    streams: dict[str, tuple[str, int]] = field(default_factory=dict)
    attempts: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)

    @property
    def acknowledged(self) -> int:
        """How many events were answered that they are on the line."""
        return self.outcomes[RECORDED] + self.outcomes[DUPLICATE]

    def send(self, client: str, sent: Sequence[Sent], *, again: bool = False) -> Attempt:
        """Note an attempt before it is made."""
        began = time.monotonic()
        self.attempts += 1
        self.retries += again
        for one in sent:
            self.contents.setdefault(one.event_id, set()).add(one.content)
            self.first_sent.setdefault(one.event_id, began)
            if one.stream:
                self.streams[one.event_id] = (one.stream, one.version)
        attempt = Attempt(client, sent, began, self.attempts)
        self._write("attempt", attempt, events=[one.event_id for one in sent])
        return attempt

    def answer(self, attempt: Attempt, verdicts: Iterable[tuple[str, int]]) -> None:
        """Note what each event of an attempt was answered: outcome and position."""
        ended = time.monotonic()
        told = list(verdicts)
        for one, (outcome, position) in zip(attempt.sent, told, strict=True):
            self.answers.append(Answer(one, outcome, position, attempt.began, ended))
            self.outcomes[outcome] += 1
        self._write("answer", attempt, verdicts=told)

    def fail(self, attempt: Attempt, reason: str) -> None:
        """Note that nobody knows what became of an attempt."""
        self.failures[reason] += 1
        self._write("failure", attempt, reason=reason)

    def _write(self, what: str, attempt: Attempt, **rest: Any) -> None:
        if self.file is None:
            return
        line = {"at": round(time.monotonic(), 6), what: attempt.number, **rest}
        if what == "attempt":
            line["client"] = attempt.client
        self.file.write(json.dumps(line, separators=(",", ":")) + "\n")

    @classmethod
    def in_file(cls, path: Path) -> "History":
        """Return an empty history that is written to a file line by line."""
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path.open("w", buffering=1))

    def close(self) -> None:
        """Write what is left."""
        if self.file is not None:
            with suppress(OSError):
                self.file.close()


def content_of(event: Event) -> bytes:
    """Return what stands for the content of an event as its caller means it.

    Not the store's own hash: whatever that does wrong must show. The tenant and what the service
    adds to identities are left out, and so is the order of identities, which it chooses.
    """
    plain = Event.FromString(event.SerializeToString())
    plain.ClearField("tenant")
    identities = []
    for identity in plain.identities:
        identity.ClearField("canonical_value")
        identities.append(identity.SerializeToString(deterministic=True))
    plain.ClearField("identities")
    digest = blake2b(plain.SerializeToString(deterministic=True), digest_size=16)
    for identity_bytes in sorted(identities):
        digest.update(len(identity_bytes).to_bytes(4, "big") + identity_bytes)
    return digest.digest()


def counted(counts: Mapping[str, int]) -> str:
    """Return counts in words, the largest first."""
    return " · ".join(f"{name} {n:,}" for name, n in sorted(counts.items(), key=lambda c: -c[1]))
