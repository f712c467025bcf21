"""Events as callers send them: one valid of each kind, and any that protobuf can carry."""

from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from touchline.events.v1.event_pb2 import Event
from touchline.uuid7 import uuid7

FACTS: Final = {
    "interaction": "channel: CHANNEL_EMAIL direction: DIRECTION_INBOUND title: 'Where is it?'",
    "community_posted": "community: 'riders' title: 'Squeaking' text: 'It squeaks.'",
    "order_changed": "order_id: '7' status: ORDER_STATUS_PLACED",
    "product_used": "product: 'app' feature: 'map' duration_seconds: 60",
    "case_changed": "case_id: 'c-7' status: CASE_STATUS_OPEN subject: 'Late' priority: 'high'",
    "campaign_touched": "campaign: 'spring' action: CAMPAIGN_ACTION_OPENED channel: CHANNEL_EMAIL",
    "consent_changed": "purpose: 'newsletter' status: CONSENT_STATUS_GRANTED proof: 'form 7'",
    "preference_changed": "channel: CHANNEL_PHONE status: PREFERENCE_STATUS_AVOIDED note: 'Late.'",
    "traits_observed": "traits { key: 'city' value: 'Graz' }",
    "note_added": "text: 'Prefers mornings.'",
    "signal_observed": "kind: 'delay' text: 'The carrier is late.'",
    "expectation_set": "expectation_id: 'e-7' promise: 'Call back' due_at { seconds: 1700086400 }",
    "expectation_resolved": "expectation_id: 'e-7' outcome: EXPECTATION_OUTCOME_RENEGOTIATED "
    "due_at { seconds: 1700172800 }",
    "event_retracted": "event_id: '018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b' reason: 'Twice.'",
    "checked_in": "place: 'Hotel Adler'",
    "payment_attempted": "payment_id: 'p-7' status: PAYMENT_STATUS_APPROVED method: 'card' "
    "amount { currency_code: 'EUR' micros: 11770000 }",
    "custom_event": "name: 'webinar.attended' properties_json: '{\"minutes\": 42}'",
}
"""By the name of the fact's field: a valid one in protobuf's text format."""

DECISIONS: Final = {
    "score_crossed": "model: 'default' model_version: 1 from_level: 'warm' to_level: 'hot' "
    "score: 42 rising: true",
    "notification_decided": "rule: 'delays' rule_version: 1 recipient { reference: 'team:desk' } "
    "title: 'Call back' reason: 'It is late.' considered { channel: NOTIFICATION_CHANNEL_INBOX "
    "verdict: CHANNEL_VERDICT_CHOSEN } values { name: 'days' value: '2' } rules: 'delays'",
    "delivery_attempted": "notification_id: '018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b' attempt: 1 "
    "channel: NOTIFICATION_CHANNEL_EMAIL outcome: DELIVERY_OUTCOME_SENT",
    "notification_read": "notification_id: '018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b'",
    "identity_decided": "reason: 'She said so.' decision { kind: IDENTITY_DECISION_KIND_MERGED "
    "profiles { root_key: 'sixteen bytes 01' version: 1 } left_keys: 'sixteen bytes 01' "
    "right_keys: 'sixteen bytes 02' joined_keys: ['sixteen bytes 01', 'sixteen bytes 02'] }",
}
"""The same of what Touchline's own services decide about customers."""

OF_AGGREGATES: Final = frozenset({"aggregate_changed", "aggregate_snapshot", "profile_erased"})
"""The facts of streams, which concern no customer."""

OF_SERVICES: Final = OF_AGGREGATES | {*DECISIONS}
"""The facts that only Touchline's own services record, over NATS."""


def an_event(
    fact: str = "interaction", email: str = "anna@example.com", event_id: str = ""
) -> Event:
    """A valid event with a fact of that kind, of one customer, and a new id unless one is given."""
    content = (FACTS | DECISIONS)[fact]
    text = (
        f"event_id: '{event_id or uuid7()}' source: 'test' occurred_at {{ seconds: 1700000000 }} "
        f"identities {{ kind: IDENTITY_KIND_EMAIL value: '{email}' }} {fact} {{ {content} }}"
    )
    return text_format.Parse(text, Event())


_NUMBERS: Final = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-(2**31), 2**31 - 1) | st.integers(0, 12),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(),
}
_ID: Final = "018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b"
_TEXTS: Final = st.text(max_size=40) | st.sampled_from(
    ["EUR", "crm", "anna@example.com", "+436641234567", _ID]
)


def any_event() -> st.SearchStrategy[Event]:
    """Events that protobuf can carry, valid ones among them."""
    valid = st.builds(an_event, st.sampled_from(list(FACTS)), event_id=st.just(_ID))
    changed = st.builds(_merged, valid, _any_message(Event))
    return valid | changed | _any_message(Event)


def _merged(event: Event, other: Event) -> Event:
    event.MergeFrom(other)
    return event


def _values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=40)
    return _NUMBERS.get(field.cpp_type, _TEXTS)


@st.composite
def _any_message(draw: st.DrawFn, kind: Any) -> Any:
    message = kind()
    descriptor: Descriptor = kind.DESCRIPTOR
    chosen = draw(st.lists(st.sampled_from(list(descriptor.fields)), max_size=5, unique=True))
    for field in chosen:
        target = getattr(message, field.name)
        if field.message_type is None:
            values = _values(field)
            if field.is_repeated:
                target.extend(draw(st.lists(values, max_size=3)))
            else:
                setattr(message, field.name, draw(values))
        elif field.message_type.GetOptions().map_entry:
            target.update(draw(st.dictionaries(_TEXTS, _TEXTS, max_size=3)))
        elif field.is_repeated:
            made = st.lists(_any_message(GetMessageClass(field.message_type)), max_size=3)
            target.extend(draw(made))
        else:
            target.CopyFrom(draw(_any_message(type(target))))
    return message
