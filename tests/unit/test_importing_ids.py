from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchline.ids import import_digest, import_id, uuid8

millis = st.integers(0, (1 << 48) - 1)
digests = st.binary(min_size=16, max_size=16)


@given(millis, digests)
def test_an_id_is_a_uuid_of_version_8_that_begins_with_its_time(when: int, digest: bytes) -> None:
    parsed = UUID(uuid8(when, digest))

    assert parsed.version == 8
    assert parsed.variant == "specified in RFC 4122"
    assert parsed.int >> 80 == when
    assert str(parsed) == uuid8(when, digest)


@given(millis, digests, digests)
def test_other_digests_give_other_ids(when: int, one: bytes, other: bytes) -> None:
    def bits(digest: bytes) -> int:
        # 74 bits: 12 after the version, 62 after the variant, of which the two it replaces are lost
        kept = int.from_bytes(digest[:10], "big") >> 4
        return kept & ~(0b11 << 62)

    assert (uuid8(when, one) == uuid8(when, other)) == (bits(one) == bits(other))


def test_a_time_before_1970_gives_an_id_of_1970() -> None:
    assert uuid8(-5, bytes(16)).startswith("00000000-0000-8")


def test_a_time_past_48_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="48 bits"):
        uuid8(1 << 48, bytes(16))


def test_source_fact_and_content_each_make_another_id() -> None:
    digests = {
        import_digest(source, kind, content)
        for source in ("shop", "crm")
        for kind in ("order_changed", "note_added")
        for content in (b"a", b"b", b"")
    }

    assert len(digests) == 12


def test_the_boundary_between_source_and_fact_counts() -> None:
    assert import_digest("ab", "c", b"") != import_digest("a", "bc", b"")


def test_each_ordinal_makes_another_id() -> None:
    digest = import_digest("shop", "order_changed", b"row")

    assert len({import_id(0, digest, ordinal) for ordinal in range(1000)}) == 1000


def test_ids_never_change() -> None:
    # Files were imported with these ids: other ones would record every row again.
    digest = import_digest("cdnow", "order_changed", b"00001\x1f19970101\x1f1\x1f11.77")

    assert import_id(852094800000, digest) == "00c664ce-d080-8edb-8f99-680e8d85b2b8"
    assert import_id(852094800000, digest, 1) == "00c664ce-d080-8c24-ae66-3c47ebe2bd34"
