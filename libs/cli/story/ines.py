"""Who the demo's customer is, and the facts that her story repeats."""

from libs.cli.story.telling import Teller, device, email, external, handle, phone
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts

CUSTOMER = "Ines Falk"
# 030 23125 000 to 999 is a range that the German regulator keeps free for fiction.
PHONE = phone("+49 30 23125 417")
EMAIL = email("ines.falk@example.com")
NUMBER = external("crm", "C-20417")
DEVICE = device("ember60-7f31c09a")
FORUM = handle("kiln-forum", "ines_fires")
MASTODON = handle("mastodon", "ines_fires")

BERLIN = ev.Location(latitude=52.49, longitude=13.43, name="Berlin")

OFFER = "offer-1182"
CASE = "case-K-3391"


def fired(teller: Teller, days_ago: int, clock: str, feature: str, *, hours: int) -> ev.Event:
    """Returns one firing."""
    used = facts.ProductUsed(product="Ember 60", feature=feature, duration_seconds=hours * 3600)
    when = teller.at(days_ago, clock)
    return teller.event(f"fired-{days_ago}", when, [DEVICE], used, source="app")


def newsletter_consent(status: "facts.ConsentStatus.ValueType", proof: str) -> facts.ConsentChanged:
    """Returns what she says to the newsletter."""
    channel = facts.CHANNEL_EMAIL
    return facts.ConsentChanged(purpose="newsletter", channel=channel, status=status, proof=proof)


def campaign_email(
    campaign: str, action: "facts.CampaignAction.ValueType"
) -> facts.CampaignTouched:
    """Returns what happened with a campaign by email."""
    return facts.CampaignTouched(campaign=campaign, action=action, channel=facts.CHANNEL_EMAIL)


def ended(
    expectation_id: str, outcome: "facts.ExpectationOutcome.ValueType", reason: str = ""
) -> facts.ExpectationResolved:
    """Returns how a promise ended."""
    return facts.ExpectationResolved(expectation_id=expectation_id, outcome=outcome, reason=reason)
