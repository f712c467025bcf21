"""What a customer allows and likes, as callers and views are told it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from uuid import UUID

from libs.consents import CONSENT, Standing, Word
from services.profile.domain.touches import timestamp
from touchline.profile.v1 import consents_pb2, profile_pb2, views_pb2

_MAX_WORDS = 100


def shown_consents(standings: Iterable[Standing]) -> list[views_pb2.Consent]:
    """Consents as a view shows them."""
    return [
        views_pb2.Consent(
            purpose=one.purpose,
            channel=one.channel,
            status=one.status,  # type: ignore[arg-type]  # of a consent it is a ConsentStatus
            since=timestamp(one.since_us),
            proof=one.proof,
        )
        for one in standings
    ]


def consent_states(
    standings: Iterable[Standing], identities: Mapping[bytes, profile_pb2.ProfileIdentity]
) -> list[consents_pb2.ConsentState]:
    """Consents with all that was said.

    Args:
        standings: How they stand.
        identities: The profile's, opened, by key.
    """
    return [
        consents_pb2.ConsentState(
            purpose=one.purpose,
            channel=one.channel,
            status=one.status,  # type: ignore[arg-type]  # of a consent it is a ConsentStatus
            words=_words(one, identities),
        )
        for one in standings
    ]


def preference_states(
    standings: Iterable[Standing], identities: Mapping[bytes, profile_pb2.ProfileIdentity]
) -> list[consents_pb2.PreferenceState]:
    """Preferences with all that was said; see `consent_states`."""
    return [
        consents_pb2.PreferenceState(
            purpose=one.purpose,
            channel=one.channel,
            status=one.status,  # type: ignore[arg-type]  # of a preference it is such a status
            words=_words(one, identities),
        )
        for one in standings
    ]


def _words(
    standing: Standing, identities: Mapping[bytes, profile_pb2.ProfileIdentity]
) -> list[consents_pb2.ConsentWord]:
    return [_word(one, standing, identities) for one in standing.words[:_MAX_WORDS]]


def _word(
    word: Word, standing: Standing, identities: Mapping[bytes, profile_pb2.ProfileIdentity]
) -> consents_pb2.ConsentWord:
    told = consents_pb2.ConsentWord(
        event_id=str(UUID(bytes=word.event_id)),
        identities=[identities[key] for key in word.identity_keys if key in identities],
        occurred_at=timestamp(word.occurred_at_us),
        recorded_at=timestamp(word.recorded_at_us),
        source=word.source,
        proof=word.proof,
        counts=word.event_id in standing.counting,
        decides=word is standing.decides,
    )
    if word.topic is CONSENT:
        told.consent_status = word.status  # type: ignore[assignment]
    else:
        told.preference_status = word.status  # type: ignore[assignment]
    return told
