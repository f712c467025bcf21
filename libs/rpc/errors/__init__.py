"""Why calls fail: one exception, one constructor per reason of touchline.errors.v1.ErrorReason.

Messages, violations and metadata reach callers and may be logged: they never hold a personal value.
"""

from libs.rpc.errors.call_error import (
    DOMAIN,
    STATUS_DETAILS,
    CallError,
)
from libs.rpc.errors.of_calls import (
    deadline_exceeded,
    internal,
    invalid_page_token,
    invalid_request,
    stale_version,
    unknown_tenant,
)
from libs.rpc.errors.of_profiles import (
    identity_not_detachable,
    not_merged,
    profile_erased,
    profile_merged_away,
    profile_not_found,
    profile_too_large,
    same_profile,
    suggestion_not_found,
)
from libs.rpc.errors.of_projections import (
    generation_not_found,
    generation_not_ready,
    generations_differ,
    projection_behind,
    projection_halted,
    projection_not_found,
    projection_paused,
    projection_unverifiable,
    rebuild_under_way,
    views_building,
    views_unavailable,
)
from libs.rpc.errors.of_rules import (
    expectation_ended,
    expectation_exists,
    expectation_not_found,
    model_building,
    model_not_found,
    notification_not_found,
)
from libs.rpc.errors.of_the_store import (
    event_not_found,
    feed_unavailable,
    queue_full,
    rejected_event_not_found,
    store_full,
    store_unavailable,
)

__all__ = [
    "DOMAIN",
    "STATUS_DETAILS",
    "CallError",
    "deadline_exceeded",
    "event_not_found",
    "expectation_ended",
    "expectation_exists",
    "expectation_not_found",
    "feed_unavailable",
    "generation_not_found",
    "generation_not_ready",
    "generations_differ",
    "identity_not_detachable",
    "internal",
    "invalid_page_token",
    "invalid_request",
    "model_building",
    "model_not_found",
    "not_merged",
    "notification_not_found",
    "profile_erased",
    "profile_merged_away",
    "profile_not_found",
    "profile_too_large",
    "projection_behind",
    "projection_halted",
    "projection_not_found",
    "projection_paused",
    "projection_unverifiable",
    "queue_full",
    "rebuild_under_way",
    "rejected_event_not_found",
    "same_profile",
    "stale_version",
    "store_full",
    "store_unavailable",
    "suggestion_not_found",
    "unknown_tenant",
    "views_building",
    "views_unavailable",
]
