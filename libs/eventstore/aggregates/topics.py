"""Names of aggregates and their events on the line, which outlive the modules they are in."""

from eventsourcing.domain import Aggregate
from eventsourcing.utils import register_topic


def give_topics(aggregate: type[Aggregate], name: str) -> None:
    """Name an aggregate and its events once and for all; call it where the class is defined.

    The library names them after their modules otherwise, and what is on the line could no longer
    be read once a module moves.

    Args:
        aggregate: The class.
        name: Such as `notification.Rule`; its events are named `notification.Rule.Published`.

    Raises:
        TopicError: another class has the name.
    """
    events = {each: value for each, value in vars(aggregate).items() if isinstance(value, type)}
    named = {name: aggregate} | {f"{name}.{each}": value for each, value in events.items()}
    for topic, named_class in named.items():
        named_class.TOPIC = topic  # type: ignore[attr-defined]  # the library looks for it
        register_topic(topic, named_class)
