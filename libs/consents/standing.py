"""How consents and preferences stand: a fold that no merge of profiles can loosen.

A word speaks for every identity that its event names. For each identity the last word holds: by the
time it was said, and of two at one time the stricter. Of a profile's identities the strictest word
holds. So:

- a merge never loses a restriction, and an un-merge gives each side back what it had, since what
  was said never moved;
- a restriction is lifted by a milder word for the identity under which it was laid down;
- arrival order and repetition change nothing.

A restriction for every channel is a word on each of them. A permission for every channel doesn't
undo the restriction of one. For an identity of which nothing was said on a channel itself, what was
said of every channel holds on it.

A word that was erased may have been a restriction, so it is one for every channel, for each purpose
that others speak of, until a milder word follows.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from libs.consents.words import Topic, Word
from touchline.events.v1.facts_pb2 import CHANNEL_UNSPECIFIED, Channel


@dataclass(frozen=True, slots=True)
class Standing:
    """What holds for a purpose on a channel.

    Attributes:
        purpose: What for.
        channel: On which channel; 0 for every one.
        status: What holds.
        decides: The word that decides.
        since_us: From when on the deciding identity's words said so without a break, in
            microseconds since 1970.
        proof: The last proof within that time; empty when there is none.
        counting: The words after which, for at least one identity, nothing was said; the deciding
            one is among them.
        words: All words that concern it, the latest first, the deciding one before all.
    """

    purpose: str
    channel: Channel.ValueType
    status: int
    decides: Word
    since_us: int
    proof: str
    counting: frozenset[bytes]
    words: tuple[Word, ...]


def standing(
    words: Iterable[Word], identity_keys: Collection[bytes], topic: Topic
) -> list[Standing]:
    """Return what holds for a profile, by purpose and channel.

    Args:
        words: In any order, any of them more than once, those of other profiles among them.
        identity_keys: The profile's.
        topic: Consents or preferences.
    """
    known = frozenset(identity_keys)
    by_purpose: defaultdict[str, list[Word]] = defaultdict(list)
    every = _of(words, known, topic)
    for word in every:
        if not word.erased:
            by_purpose[word.purpose].append(word)
    return [
        _fold(_lines(_about(every, purpose), known, channel), purpose, channel)
        for purpose, said in sorted(by_purpose.items())
        for channel in sorted({word.channel for word in said})
    ]


def holds(
    words: Iterable[Word],
    identity_keys: Collection[bytes],
    topic: Topic,
    purpose: str,
    channel: Channel.ValueType,
) -> Standing | None:
    """Return what holds on one channel; None when nothing was said of it, or all was erased.

    Where `standing` tells of the channel, it tells the same.

    Args:
        words: As for `standing`.
        identity_keys: The profile's.
        topic: Consents or preferences.
        purpose: What for.
        channel: On which channel; 0 asks for what holds on every one.
    """
    known = frozenset(identity_keys)
    said = _about(_of(words, known, topic), purpose)
    lines = _lines(said, known, channel)
    if all(word.erased for line in lines.values() for word in line):
        return None
    return _fold(lines, purpose, channel)


def _of(words: Iterable[Word], keys: frozenset[bytes], topic: Topic) -> list[Word]:
    """Return the words of a topic that speak for some identities, each once, the first first."""
    distinct = {
        word.event_id: word
        for word in words
        if word.topic is topic and not keys.isdisjoint(word.identity_keys)
    }
    return sorted(distinct.values(), key=_order)


def _about(words: Iterable[Word], purpose: str) -> list[Word]:
    return [word for word in words if word.erased or word.purpose == purpose]


def _order(word: Word) -> tuple[int, int, bytes]:
    return word.occurred_at_us, word.status, word.event_id


def _lines(
    words: Sequence[Word], keys: frozenset[bytes], channel: Channel.ValueType
) -> dict[bytes, list[Word]]:
    """Return, by identity, the words that say what holds on a channel, in their order."""
    lines = _by_identity(words, keys, channel)
    for key, line in _by_identity(words, keys, CHANNEL_UNSPECIFIED).items():
        if all(word.channel != channel for word in lines.get(key, ())):
            lines[key] = line
    return lines


def _by_identity(
    words: Sequence[Word], keys: frozenset[bytes], channel: Channel.ValueType
) -> dict[bytes, list[Word]]:
    """Return, by identity, the words that concern a channel, in their order."""
    lines: dict[bytes, list[Word]] = {}
    for word in words:
        if word.channel == channel or _restricts_everywhere(word):
            for key in word.identity_keys:
                if key in keys:
                    lines.setdefault(key, []).append(word)
    return lines


def _restricts_everywhere(word: Word) -> bool:
    return word.channel == CHANNEL_UNSPECIFIED and word.status == word.topic.value


def _fold(
    lines: Mapping[bytes, Sequence[Word]], purpose: str, channel: Channel.ValueType
) -> Standing:
    """Fold the words of one purpose that say what holds on a channel, by identity."""
    lasts = {line[-1].event_id: line[-1] for line in lines.values()}
    decides = max(lasts.values(), key=_strictness)
    # It may be the last word for several identities; then the longest unbroken time counts.
    runs = (_unbroken(line) for line in lines.values() if line[-1].event_id == decides.event_id)
    run = min(runs, key=lambda run: _order(run[0]))
    others = {word.event_id: word for line in lines.values() for word in line}
    del others[decides.event_id]
    return Standing(
        purpose=purpose,
        channel=channel,
        status=decides.status,
        decides=decides,
        since_us=run[0].occurred_at_us,
        proof=next((word.proof for word in reversed(run) if word.proof), ""),
        counting=frozenset(lasts),
        words=(decides, *sorted(others.values(), key=_order, reverse=True)),
    )


def _strictness(word: Word) -> tuple[int, int, bytes]:
    return word.status, word.occurred_at_us, word.event_id


def _unbroken(line: Sequence[Word]) -> list[Word]:
    """Return the words at the end of a line that say the same, in their order.

    A milder word of the very time of a stricter one breaks nothing: the stricter one counts.
    """
    said: list[Word] = []
    for word in reversed(line):
        if word.status != line[-1].status:
            if said and word.occurred_at_us == said[-1].occurred_at_us:
                continue
            break
        said.append(word)
    return said[::-1]
