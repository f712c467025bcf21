"""What a decision is called, and what may still be decided about."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from libs.projection.outbox import DAY_US, may_act
from touchline.ids import decision_id, uuid8
from touchline.store.v1.store_pb2 import RecordedEvent

NOW_US = 1_800_000_000_000_000
PARTS = st.lists(st.binary(max_size=6) | st.text(max_size=6), min_size=1, max_size=4)


def told(parts: list[bytes | str]) -> list[bytes]:
    """Parts as bytes."""
    return [part.encode() if isinstance(part, str) else part for part in parts]


@given(PARTS, PARTS)
def test_a_decisions_id_tells_its_parts_apart_and_nothing_else(
    one: list[bytes | str], other: list[bytes | str]
) -> None:
    same = decision_id(NOW_US, *one) == decision_id(NOW_US, *other)
    assert same == (told(one) == told(other))


def test_a_decisions_id_begins_with_the_milliseconds_in_which_its_cause_was_recorded() -> None:
    event_id = UUID(decision_id(NOW_US + 999, b"cause", "notify", "team:fraud"))
    assert (event_id.version, event_id.int >> 80) == (8, NOW_US // 1000)
    assert decision_id(NOW_US, "a") != uuid8(NOW_US // 1000, bytes(16))
    # Frozen: another id for what was decided before would decide it again.
    assert str(event_id) == "01a3185c-5000-87cc-977f-60d62b46889f"


def test_nothing_of_the_past_acts() -> None:
    def acts(age_us: int, *, historical: bool = False, **limit: int) -> bool:
        record = RecordedEvent(occurred_at_us=NOW_US - age_us, historical=historical)
        return may_act(record, NOW_US, **limit)

    assert acts(0)
    assert acts(DAY_US - 1)
    assert not acts(DAY_US)
    assert not acts(0, historical=True)
    assert acts(2 * DAY_US, max_age_us=3 * DAY_US)
    assert not acts(60_000_000, max_age_us=60_000_000)
    assert acts(-5_000_000)  # a clock that is ahead of ours
