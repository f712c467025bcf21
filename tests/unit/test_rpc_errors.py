import pytest
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    RetryInfo,
)

from libs.rpc import errors
from libs.rpc.errors import CallError
from touchline.errors.v1.error_reason_pb2 import ErrorReason

EVERY_ERROR = [
    (errors.invalid_request([("page_size", "must be 0 or more")]), "INVALID_REQUEST"),
    (errors.unknown_tenant("acme"), "UNKNOWN_TENANT"),
    (errors.profile_not_found(), "PROFILE_NOT_FOUND"),
    (errors.invalid_page_token(), "INVALID_PAGE_TOKEN"),
    (errors.queue_full(20_000, 0.25), "QUEUE_FULL"),
    (errors.store_unavailable(), "STORE_UNAVAILABLE"),
    (errors.store_full(), "STORE_FULL"),
    (errors.projection_behind("timeline", 41, 42), "PROJECTION_BEHIND"),
    (errors.projection_halted("timeline"), "PROJECTION_HALTED"),
    (errors.projection_not_found("timelines"), "PROJECTION_NOT_FOUND"),
    (errors.projection_unverifiable("timeline", "it moves."), "PROJECTION_UNVERIFIABLE"),
    (errors.internal("ab" * 16), "INTERNAL"),
    (errors.deadline_exceeded(), "DEADLINE_EXCEEDED"),
    (errors.views_unavailable(), "VIEWS_UNAVAILABLE"),
    (errors.stale_version("default", 3, 2), "STALE_VERSION"),
    (errors.model_not_found("churn"), "MODEL_NOT_FOUND"),
    (errors.model_building("churn", 1.0), "MODEL_BUILDING"),
    (errors.notification_not_found(), "NOTIFICATION_NOT_FOUND"),
    (errors.event_not_found(), "EVENT_NOT_FOUND"),
    (errors.expectation_not_found(), "EXPECTATION_NOT_FOUND"),
    (errors.expectation_ended(), "EXPECTATION_ENDED"),
    (errors.expectation_exists(), "EXPECTATION_EXISTS"),
    (errors.rejected_event_not_found(7), "REJECTED_EVENT_NOT_FOUND"),
    (errors.profile_merged_away("0a" * 16, "9f" * 16), "PROFILE_MERGED_AWAY"),
    (errors.same_profile("0a" * 16), "SAME_PROFILE"),
    (errors.not_merged("0a" * 16), "NOT_MERGED"),
    (errors.identity_not_detachable("0a" * 16), "IDENTITY_NOT_DETACHABLE"),
    (errors.suggestion_not_found(), "SUGGESTION_NOT_FOUND"),
    (errors.profile_erased(42), "PROFILE_ERASED"),
    (errors.profile_too_large(6000, 5000), "PROFILE_TOO_LARGE"),
    (errors.rebuild_under_way("timeline", 12), "REBUILD_UNDER_WAY"),
    (errors.generation_not_found("timeline", 12, ""), "GENERATION_NOT_FOUND"),
    (errors.generation_not_ready("timeline", 12, "filling", "Wait."), "GENERATION_NOT_READY"),
    (errors.generations_differ("timeline", 12, 3), "GENERATIONS_DIFFER"),
    (errors.views_building("timeline"), "VIEWS_BUILDING"),
    (errors.projection_paused("timeline"), "PROJECTION_PAUSED"),
]


def test_every_reason_of_the_contract_has_a_constructor() -> None:
    reasons = {name.removeprefix("ERROR_REASON_") for name in ErrorReason.keys()}  # noqa: SIM118
    assert {reason for _, reason in EVERY_ERROR} == reasons - {"UNSPECIFIED"}


@pytest.mark.parametrize(("error", "reason"), EVERY_ERROR, ids=lambda value: str(value)[:20])
def test_an_error_is_rendered_with_exactly_one_error_info(error: CallError, reason: str) -> None:
    status = error.status()
    infos = [
        ErrorInfo.FromString(detail.value)
        for detail in status.details
        if detail.Is(ErrorInfo.DESCRIPTOR)
    ]
    assert [(info.reason, info.domain) for info in infos] == [(reason, "touchline")]
    assert dict(infos[0].metadata) == error.metadata
    assert status.code == error.code.value[0]
    assert status.message == str(error)


def test_a_full_queue_says_how_many_wait_and_when_to_come_again() -> None:
    status = errors.queue_full(20_000, 0.25).status()
    info = ErrorInfo.FromString(status.details[0].value)
    retry = RetryInfo.FromString(status.details[1].value)
    assert info.metadata == {"queued": "20000"}
    assert retry.retry_delay.ToMilliseconds() == 250


def test_an_invalid_request_names_every_broken_rule() -> None:
    broken = [("events", "at most 1000"), ("page_size", "must be 0 or more")]
    error = errors.invalid_request(broken)
    bad_request = BadRequest.FromString(error.status().details[1].value)
    assert [(each.field, each.description) for each in bad_request.field_violations] == broken
    assert error.metadata == {"field": "events"}
    assert "events: at most 1000 (and 1 more)" in error.message


def test_a_full_disk_is_not_to_be_tried_again_soon() -> None:
    assert errors.store_full().retry_after is None
