import time
import uuid

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from libs.rpc.tenants import Tenants
from touchline.times import micros_of, timestamp_of
from touchline.uuid7 import uuid7

FIRST_MICROS = -62_135_596_800 * 10**6  # 0001-01-01
LAST_MICROS = 253_402_300_799 * 10**6  # 9999-12-31


@given(st.integers(FIRST_MICROS, LAST_MICROS))
def test_micros_and_timestamps_are_the_same_times(micros: int) -> None:
    expected = Timestamp()
    expected.FromMicroseconds(micros)
    assert timestamp_of(micros) == expected
    assert micros_of(expected) == micros


def test_what_is_finer_than_a_microsecond_is_cut_off() -> None:
    assert micros_of(Timestamp(seconds=1, nanos=1_999)) == 1_000_001


def test_an_event_id_is_a_uuid_of_version_7_of_this_time() -> None:
    before = time.time_ns() // 10**6
    made = uuid.UUID(uuid7())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 10**6


def test_event_ids_differ_and_sort_by_the_time_they_were_made() -> None:
    ids = [uuid7() for _ in range(2_000)]
    assert len(set(ids)) == len(ids)
    assert [each[:18] for each in ids] == sorted(each[:18] for each in ids)


def test_tenants_are_numbered_in_their_order_from_1() -> None:
    tenants = Tenants(["default", "acme"])
    assert [(tenant.name, tenant.number) for tenant in tenants.all] == [("default", 1), ("acme", 2)]
    assert tenants.named("acme").number == 2


@pytest.mark.parametrize("names", [[], ["a", "a"], [""], ["Acme"], ["a b"], ["a" * 64]])
def test_settings_that_do_not_name_each_tenant_once_are_refused(names: list[str]) -> None:
    with pytest.raises(ValueError, match="TOUCHLINE_TENANTS"):
        Tenants(names)
