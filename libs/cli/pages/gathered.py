"""What the page about a person needs to know of an export before it tells what happened."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from libs.cli.rendering import words
from libs.cli.rendering.consents import State
from touchline.profile.v1 import erasure_pb2 as erasures
from touchline.profile.v1 import identities_pb2 as identities
from touchline.profile.v1 import profile_pb2 as profiles

_KEPT_FACTS: Final = ("expectation_set", "expectation_resolved", "event_retracted")


@dataclass(slots=True)
class Gathered:
    """What the page needs to know before it tells what happened.

    Attributes:
        profile: Who they are.
        links: Why their identities are one person.
        verdicts: What people decided about that.
        values: All that was observed of their attributes.
        stand: Consents and preferences.
        spoken_of: The ids of events that others answer, tell of or retract.
        kept: The entries that say how promises ended and what was retracted, the oldest first.
        years: How many entries each year has.
        end: The end of the export; None: it has not come.
    """

    profile: profiles.Profile = field(default_factory=profiles.Profile)
    links: list[identities.IdentityLink] = field(default_factory=list)
    verdicts: list[identities.IdentityVerdict] = field(default_factory=list)
    values: list[erasures.AttributeValue] = field(default_factory=list)
    stand: list[State] = field(default_factory=list)
    spoken_of: set[str] = field(default_factory=set)
    kept: list[profiles.TimelineEntry] = field(default_factory=list)
    years: Counter[int] = field(default_factory=Counter)
    end: erasures.ExportEnd | None = None

    def take(self, item: erasures.ExportedItem, now: datetime) -> None:
        """Take note of an item; of one that happened, only what others need of it."""
        match item.WhichOneof("item"):
            case "profile":
                self.profile = item.profile
            case "link":
                self.links.append(item.link)
            case "verdict":
                self.verdicts.append(item.verdict)
            case "attribute_value":
                self.values.append(item.attribute_value)
            case "consent":
                self.stand.append(item.consent)
            case "preference":
                self.stand.append(item.preference)
            case "entry":
                self._take_entry(item.entry, now)
            case "end":
                self.end = item.end

    def _take_entry(self, entry: profiles.TimelineEntry, now: datetime) -> None:
        event = entry.event
        self.years[words.local(event.occurred_at, now.tzinfo).year] += 1
        self.spoken_of |= {
            event.interaction.in_reply_to,
            event.community_posted.in_reply_to,
            event.event_retracted.event_id,
            event.delivery_attempted.notification_id,
            event.notification_read.notification_id,
        }
        self.spoken_of.discard("")
        if event.WhichOneof("fact") in _KEPT_FACTS:
            self.kept.append(entry)
