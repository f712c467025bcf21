"""The others of the demo: a few hundred customers with short, plausible, repeatable histories."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.cli.story import words
from libs.cli.story.telling import (
    Fact,
    Teller,
    device,
    email,
    employee,
    euros,
    external,
    handle,
    order,
    phone,
    promised,
    system,
)
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1 import identity_pb2 as ids

DAYS = 90
_FIRST_NAMES = words.FIRST_NAMES.split()
_LAST_NAMES = words.LAST_NAMES.split()
PERSONAL_KINDS = (
    ids.IDENTITY_KIND_EMAIL,
    ids.IDENTITY_KIND_PHONE,
    ids.IDENTITY_KIND_SOCIAL_HANDLE,
)
# Shorter strings occur in binary files by chance.
SHORTEST_PERSONAL_STRING = 6


@dataclass(frozen=True, slots=True)
class _Customer:
    name: str
    number: ids.Identity
    email: ids.Identity
    phone: ids.Identity
    handle: ids.Identity
    device: ids.Identity


@dataclass(frozen=True, slots=True)
class _Scene:
    whom: Sequence[ids.Identity]
    fact: Fact
    source: str
    actor: ev.Actor | None = None


_Draw = Callable[[random.Random, _Customer, datetime], _Scene]


def population(now: datetime, seed: str = "others", customers: int = 300) -> Iterator[ev.Event]:
    """Tells the histories of generated customers, one customer after the other.

    Each has 2 to 12 events within the last 90 days and becomes one profile: the first event shows
    all identities together.

    Args:
        now: The present, with a time zone.
        seed: The same seed and clock give the same events.
        customers: How many, at most 1,500.
    """
    teller = Teller(seed, now)
    for index in range(customers):
        # A seeded generator is the point: the demo is the same every time.
        rng = random.Random(f"{seed}/{index}")  # noqa: S311
        yield from _history(teller, rng, index)


def personal_strings(events: Iterable[ev.Event]) -> set[str]:
    """Returns what nobody may find in the clear: addresses, numbers, handles, names and texts."""
    found: set[str] = set()
    for event in events:
        for identity in event.identities:
            if identity.kind in PERSONAL_KINDS:
                found.update((identity.value, identity.value.replace(" ", "")))
        found.update(event.traits_observed.traits.get(name, "") for name in ("name", "studio"))
        for fact in (event.interaction, event.community_posted):
            found.update((fact.title, fact.text))
        found.update((event.note_added.text, event.signal_observed.text))
        found.update((event.case_changed.subject, event.expectation_set.promise))
        found.update((event.expectation_resolved.reason, event.event_retracted.reason))
    return {text for text in found if len(text) >= SHORTEST_PERSONAL_STRING}


def _history(teller: Teller, rng: random.Random, index: int) -> Iterator[ev.Event]:
    customer = _customer(index)
    minutes = sorted(rng.sample(range(60, DAYS * 24 * 60), rng.randint(2, 12)), reverse=True)
    times = [teller.ago(minute) for minute in minutes]
    everything = [customer.number, customer.email, customer.phone, customer.handle, customer.device]
    known = facts.TraitsObserved(
        traits={"name": customer.name, "city": rng.choice(words.CITIES), "studio": _studio(index)}
    )
    yield teller.event(f"{index}/known", times[0], everything, known, source="crm")
    for ordinal, when in enumerate(times[1:], start=1):
        draw = rng.choices([draw for draw, _ in _DRAWS], [weight for _, weight in _DRAWS])[0]
        scene = draw(rng, customer, when)
        yield teller.event(
            f"{index}/{ordinal}",
            when,
            scene.whom,
            scene.fact,
            source=scene.source,
            actor=scene.actor,
        )


def _customer(index: int) -> _Customer:
    first = _FIRST_NAMES[index % len(_FIRST_NAMES)]
    last = _LAST_NAMES[index // len(_FIRST_NAMES)]
    plain = f"{first}.{last}".lower().translate(words.PLAIN_LETTERS)
    return _Customer(
        name=f"{first} {last}",
        number=external("crm", f"C-{30_000 + index}"),
        email=email(f"{plain}@example.{('com', 'org', 'net')[index % 3]}"),
        phone=phone(_phone(index)),
        handle=handle("mastodon", f"{plain.replace('.', '_')}_{words.CRAFTS[index % 7]}"),
        device=device(f"ember60-{0x51A70000 + index * 7919:08x}"),
    )


def _phone(index: int) -> str:
    # The German regulator keeps these for fiction: Hamburg and Munich, 1,000 numbers each.
    area, block = (("40", "66969"), ("89", "99998"))[index % 2]
    return f"+49 {area} {block} {index // 2:03d}"


def _studio(index: int) -> str:
    last = _LAST_NAMES[index // len(_FIRST_NAMES)]
    return f"{last} {words.CRAFTS[index % len(words.CRAFTS)].title()} {index + 1}"


def _call(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    agent = f"agent-{rng.randint(1, 9)}"
    call = facts.Interaction(
        channel=facts.CHANNEL_PHONE,
        direction=facts.DIRECTION_INBOUND,
        title=words.sentence(rng, words.QUESTIONS),
        text=f"{customer.name} {words.sentence(rng, words.CALL_NOTES)}",
        participants=[agent],
        intent=rng.choice(("question", "complaint", "purchase")),
        duration_seconds=rng.randint(60, 1500),
    )
    return _Scene([customer.phone], call, "pbx")


def _mail(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    inbound = rng.random() < 0.6
    mail = facts.Interaction(
        channel=facts.CHANNEL_EMAIL,
        direction=facts.DIRECTION_INBOUND if inbound else facts.DIRECTION_OUTBOUND,
        title=words.sentence(rng, words.QUESTIONS),
        text=f"{words.sentence(rng, words.MAILS)} {customer.name}"
        if inbound
        else f"Dear {customer.name}, {words.sentence(rng, words.ANSWERS)}",
    )
    actor = None if inbound else employee(f"agent-{rng.randint(1, 9)}")
    return _Scene([customer.email], mail, "mail", actor)


def _post(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    text = words.sentence(rng, words.POSTS)
    if rng.random() < 0.5:
        question = words.sentence(rng, words.QUESTIONS)
        thread = facts.CommunityPosted(community="kiln-forum", title=question, text=text)
        return _Scene([customer.handle], thread, "forum")
    post = facts.Interaction(
        channel=facts.CHANNEL_SOCIAL,
        network="mastodon",
        direction=facts.DIRECTION_INBOUND,
        visibility=facts.VISIBILITY_PUBLIC,
        text=text,
    )
    return _Scene([customer.handle], post, "social")


def _purchase(rng: random.Random, customer: _Customer, when: datetime) -> _Scene:
    name, price = rng.choice(words.ARTICLES)
    quantity = rng.randint(1, 4)
    placed = order(
        f"S-{rng.randint(10_000, 49_999)}-{customer.number.value}",
        facts.ORDER_STATUS_PLACED,
        items=[facts.OrderItem(name=name, quantity=quantity, unit_price=euros(price))],
        amount=euros(price * quantity),
        due=when + timedelta(days=5),
        channel=facts.CHANNEL_WEB,
    )
    return _Scene([customer.number, customer.email], placed, "shop")


def _firing(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    used = facts.ProductUsed(
        product="Ember 60",
        feature=rng.choice(("bisque firing", "glaze firing", "schedule editor")),
        duration_seconds=rng.randint(600, 43_200),
    )
    return _Scene([customer.device], used, "app")


def _case(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    changed = facts.CaseChanged(
        case_id=f"K-{customer.number.value}",
        status=rng.choice((facts.CASE_STATUS_OPEN, facts.CASE_STATUS_SOLVED)),
        subject=words.sentence(rng, words.CASES),
        priority=rng.choice(("low", "normal", "high")),
    )
    return _Scene([customer.number], changed, "desk", employee(f"agent-{rng.randint(1, 9)}"))


def _campaign(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    touched = facts.CampaignTouched(
        campaign=rng.choice(words.CAMPAIGNS),
        action=rng.choice((facts.CAMPAIGN_ACTION_SENT, facts.CAMPAIGN_ACTION_CLICKED)),
        channel=facts.CHANNEL_EMAIL,
    )
    return _Scene([customer.email], touched, "newsletter", system("campaigns"))


def _consent(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    status = rng.choice((facts.CONSENT_STATUS_GRANTED, facts.CONSENT_STATUS_WITHDRAWN))
    changed = facts.ConsentChanged(
        purpose="newsletter", channel=facts.CHANNEL_EMAIL, status=status, proof="account settings"
    )
    return _Scene([customer.email, customer.number], changed, "shop")


def _promise(rng: random.Random, customer: _Customer, when: datetime) -> _Scene:
    due = when + timedelta(days=rng.randint(2, 9))
    name = f"promise-{customer.number.value}-{when:%m%d%H%M}"
    made = promised(name, words.sentence(rng, words.PROMISES), due)
    return _Scene([customer.number], made, "desk", employee(f"agent-{rng.randint(1, 9)}"))


def _note(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    note = facts.NoteAdded(text=f"{customer.name} {words.sentence(rng, words.CALL_NOTES)}")
    return _Scene([customer.number], note, "crm", employee(f"sales-{rng.randint(1, 5)}"))


def _signal(rng: random.Random, customer: _Customer, _: datetime) -> _Scene:
    kind, template = rng.choice(words.SIGNALS)
    signal = facts.SignalObserved(kind=kind, text=words.sentence(rng, (template,)))
    return _Scene([customer.number], signal, "carrier", system("parcels"))


_DRAWS: Sequence[tuple[_Draw, int]] = (
    (_firing, 24),
    (_purchase, 14),
    (_call, 12),
    (_mail, 14),
    (_post, 10),
    (_campaign, 10),
    (_case, 5),
    (_consent, 4),
    (_promise, 3),
    (_note, 3),
    (_signal, 2),
)
