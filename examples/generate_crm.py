"""Writes the export of a CRM that never was: HubSpot's files and columns, joined with each other.

    python examples/generate_crm.py --seed 7 --out DIR
    touchline import DIR --mapping examples/hubspot

500 contacts, among them people who are there twice or three times: some were merged in the CRM,
some share a phone number or an address and nobody noticed. 2,000 tickets, calls, emails, meetings,
notes, tasks, campaigns' emails, lists, forms and deals. A few references lead nowhere, as in any
export. Names are invented, addresses are of example.com, phone numbers of the ranges that Germany
keeps free for films. The same seed gives the same bytes.
"""

import argparse
import csv
import json
import random
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

COLUMNS: dict[str, list[str]] = json.loads(
    Path(__file__).with_name("crm_columns.json").read_text("utf-8")
)
"""The columns of each file, `NAME_data.csv`."""

CONTACTS, TICKETS = 500, 2000
BEGIN, EXPORT = datetime(2024, 1, 8), datetime(2025, 12, 1)
SYNCED = "2025-12-01 04:00:00"
PORTAL = "4727653"
FIRST = (
    "Ada",
    "Ben",
    "Cleo",
    "Edda",
    "Finn",
    "Greta",
    "Hanno",
    "Ines",
    "Linus",
    "Mina",
    "Oda",
    "Pia",
)
LAST = (
    "Adler",
    "Birk",
    "Cordes",
    "Ehlert",
    "Falk",
    "Gerlach",
    "Imhof",
    "Krug",
    "Moser",
    "Ott",
    "Voss",
)
COMPANIES = ("Nordlicht Optik", "Hafenkontor", "Bergwerk Design", "Lindenhof", "Salzmann & Co", "")
JOBS = ("buyer", "owner", "assistant", "head of sales", "engineer", "")
SUBJECTS = ("Invoice is wrong", "Parcel is late", "Login fails", "Lens is scratched", "Refund")
PHONES = ("+49 30 23125{:03}", "+49 40 66969{:03}", "+49 69 90009{:03}", "+49 89 99998{:03}")
STAGES = (("1", "New", "OPEN"), ("2", "Waiting", "OPEN"), ("4", "Closed", "CLOSED"))
DEAL_STAGES = (("appointment", "Appointment"), ("offer", "Offer sent"), ("won", "Closed won"))
LISTS = ("Newsletter", "Trade fair", "Spectacle wearers", "Opticians", "Dormant", "Beta", "VIP")
FORMS = ("Newsletter signup", "Contact us", "Request a demo", "Download the guide", "Feedback")
CAMPAIGNS = tuple(f"{kind} {month}" for kind in ("Offers", "News") for month in range(1, 11))
DETAILS = {"SPAMREPORT": "spam_report", "STATUSCHANGE": "status_change"}
BOUNCES = ("MAILBOX_FULL", "UNKNOWN_USER", "THROTTLED", "GREYLISTING")

Row = dict[str, str]


@dataclass(slots=True)
class Contact:
    """A contact of the CRM; several can be one person."""

    id: str
    first: str
    last: str
    email: str
    created: datetime
    phone: str = ""
    second_email: str = ""
    merged: list[str] = field(default_factory=list)
    deleted: bool = False


class Export:
    """The rows of an export, file by file.

    Args:
        seed: What all chance comes from.
    """

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311 (invented people, not secrets)
        self.rows: dict[str, list[Row]] = {name: [] for name in COLUMNS}
        self._ids: defaultdict[str, int] = defaultdict(lambda: 1000)
        self._taken: set[datetime] = set()

    def add(self, name: str, /, **cells: str) -> None:
        """Add a row; cells that are not named are empty."""
        row = dict.fromkeys(COLUMNS[name], "")
        row.update({key: SYNCED for key in row if key == "_fivetran_synced"})
        row.update({key: PORTAL for key in row if key == "portal_id"})
        if unknown := cells.keys() - row.keys():
            raise ValueError(f"{name} has no columns {unknown}")
        self.rows[name].append(row | cells)

    def id(self, kind: str) -> str:
        """Return a number that nothing else of a kind has."""
        self._ids[kind] += self.random.randrange(1, 9)
        return f"{self._ids[kind]}"

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    def moment(self, after: datetime = BEGIN, before: datetime = EXPORT) -> datetime:
        """Return a second between two moments that nothing else has."""
        seconds = int((before - after).total_seconds())
        while (
            found := after + timedelta(seconds=self.random.randrange(1, seconds))
        ) in self._taken:
            pass
        self._taken.add(found)
        return found

    def some(self, contacts: Sequence[Contact]) -> list[Contact]:
        """Return one contact, and now and then two who were there together."""
        count = 2 if self.random.random() < 0.08 else 1
        return self.random.sample(contacts, count)

    def write(self, folder: Path) -> None:
        """Write the files."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.rows.items():
            with (folder / f"{name}_data.csv").open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, COLUMNS[name], lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)


def generate(seed: int) -> Export:
    """Return the export that a seed stands for."""
    export = Export(seed)
    owners = _owners(export)
    contacts = _contacts(export)
    alive = [one for one in contacts if not one.deleted]
    for contact in contacts:
        _contact_row(export, contact)
        _history(export, contact)
    _tickets(export, alive, owners)
    _engagements(export, alive, owners)
    _campaign_emails(export, alive)
    _lists_and_forms(export, alive)
    _deals(export, alive, owners)
    for rows in export.rows.values():
        export.random.shuffle(rows)
    _merge_audit(export, contacts)  # in the order in which it happened
    return export


def _owners(export: Export) -> list[str]:
    owners = [export.id("owner") for _ in range(12)]
    for owner in owners:
        export.add("owner", owner_id=owner, type="PERSON", email=f"agent-{owner}@example.com")
    return owners


def _contacts(export: Export) -> list[Contact]:
    chance = export.random
    contacts: list[Contact] = []
    for number in range(CONTACTS):
        first, last = chance.choice(FIRST), chance.choice(LAST)
        contact = Contact(
            export.id("contact"),
            first,
            last,
            f"{first}.{last}.{number}@example.com".lower(),
            export.moment(before=EXPORT - timedelta(days=200)),
        )
        if chance.random() < 0.7:
            contact.phone = PHONES[number % len(PHONES)].format(number // len(PHONES))
        contacts.append(contact)
    chance.shuffle(contacts)
    _duplicates(contacts)
    for contact in contacts[-4:]:
        contact.deleted = True
    return contacts


def _duplicates(contacts: list[Contact]) -> None:
    """Make some contacts the same people: 30 merged pairs, 5 merged threes, 30 nobody noticed."""
    for one, other in zip(contacts[:30], contacts[100:130], strict=True):
        _same(one, other)
        one.merged.append(other.id)
    for one, other, third in zip(
        contacts[30:35], contacts[130:135], contacts[140:145], strict=True
    ):
        _same(one, other)
        _same(one, third)
        one.merged += [other.id, third.id]
    for one, other in zip(contacts[35:50], contacts[150:165], strict=True):  # one phone number
        _same(one, other)
        one.phone = one.phone or PHONES[0].format(900 + contacts.index(one))
        other.phone = one.phone
    for one, other in zip(contacts[50:65], contacts[170:185], strict=True):  # one address
        _same(one, other)
        one.second_email = other.email
    for one in contacts[65:85]:  # an address that no other contact has
        one.second_email = one.email.replace("@", ".private@")
    for one, other in zip(contacts[:10], contacts[100:110], strict=True):
        one.second_email = other.email  # as a CRM keeps the address of a contact that it merged


def _same(one: Contact, other: Contact) -> None:
    other.first, other.last = one.first, one.last


def _contact_row(export: Export, contact: Contact) -> None:
    chance = export.random
    created = str(contact.created)
    export.add(
        "contact",
        _fivetran_deleted=str(contact.deleted).upper(),
        _fivetran_synced=str(export.moment(EXPORT - timedelta(days=60), EXPORT)),
        id=contact.id,
        property_email=contact.email,
        property_email_1=contact.second_email,
        property_firstname=contact.first,
        property_lastname=contact.last,
        property_company=chance.choice(COMPANIES),
        property_jobtitle=chance.choice(JOBS),
        property_annualrevenue=str(chance.randrange(1, 90) * 10_000),
        property_createdate=created,
        property_created_at=created,
        property_hs_merged_object_ids=";".join(contact.merged),
    )


def _history(export: Export, contact: Contact) -> None:
    """Add what was known of a contact before its export, and for some after it."""
    chance = export.random
    known = [("email", contact.email), ("firstname", contact.first), ("lastname", contact.last)]
    if contact.phone:
        known.append(("phone", contact.phone))
    for _ in range(chance.randrange(4)):
        name = chance.choice(("company", "jobtitle", "city", "lifecyclestage"))
        values = {
            "company": COMPANIES,
            "jobtitle": JOBS,
            "city": ("Kiel", "Bremen", "Graz", ""),
            "lifecyclestage": ("subscriber", "lead", "customer"),
        }[name]
        known.append((name, chance.choice(values)))
    for name, value in known:
        when = export.moment(contact.created)
        export.add(
            "contact_property_history",
            contact_id=contact.id,
            timestamp=f"{when}.{chance.randrange(1000):03}",
            source=chance.choice(("CRM_UI", "IMPORT", "FORM", "INTEGRATION")),
            name=name,
            value=value,
        )


def _merge_audit(export: Export, contacts: list[Contact]) -> None:
    """Tell the merges, but the last three: those only the contacts themselves list."""
    merges = [(one.id, other) for one in contacts for other in one.merged]
    at = EXPORT - timedelta(days=30)
    for number, (canonical, merged) in enumerate(merges[:-3]):
        export.add(
            "contact_merge_audit",
            canonical_vid=canonical,
            contact_id=canonical,
            vid_to_merge=merged,
            entity_id="json",
            num_properties_moved="2",
            timestamp=str(at + timedelta(minutes=number)),
            user_id=export.random.choice(("12345", "56789", "")),
        )
    moment = str(at + timedelta(days=1))
    export.add(  # two contacts that the export lacks
        "contact_merge_audit", canonical_vid="1", contact_id="1", vid_to_merge="2", timestamp=moment
    )


def _tickets(export: Export, contacts: list[Contact], owners: list[str]) -> None:
    chance = export.random
    export.add("ticket_pipeline", pipeline_id="0", active="TRUE", label="Support")
    for stage, label, state in STAGES:
        export.add(
            "ticket_pipeline_stage",
            stage_id=stage,
            label=label,
            pipeline_id="0",
            ticket_state=state,
            is_closed=str(state == "CLOSED").upper(),
        )
    for number in range(TICKETS):
        ticket, opened = export.id("ticket"), export.moment()
        closed = (
            export.moment(opened, opened + timedelta(days=20)) if chance.random() < 0.8 else None
        )
        export.add(
            "ticket",
            id=ticket,
            is_deleted="TRUE" if number % 400 == 200 else "FALSE",
            property_createdate=str(opened),
            property_closed_date=str(closed or ""),
            property_hs_pipeline="0",
            property_hs_pipeline_stage="4" if closed else "1",
            property_hs_ticket_priority=chance.choice(("LOW", "MEDIUM", "HIGH", "")),
            property_hubspot_owner_id=chance.choice([*owners, ""]),
            property_subject=chance.choice(SUBJECTS),
        )
        if number % 100 == 99:  # nobody knows whose it is
            continue
        for contact in export.some(contacts):
            export.add("ticket_contact", ticket_id=ticket, contact_id=contact.id)
        end = closed or opened + timedelta(days=20)
        for name, value in _ticket_changes(chance):
            export.add(
                "ticket_property_history",
                ticket_id=ticket,
                name=name,
                value=value,
                source="CRM_UI",
                timestamp_instant=f"{export.moment(opened, end)}.000",
            )


def _ticket_changes(chance: random.Random) -> list[tuple[str, str]]:
    found = [("hs_pipeline", "0")]
    if chance.random() < 0.5:
        found.append(("hs_pipeline_stage", "2"))
    if chance.random() < 0.2:
        found.append(("hs_ticket_priority", "HIGH"))
    return found


def _engagements(export: Export, contacts: list[Contact], owners: list[str]) -> None:
    for kind, count in (
        *(("CALL", 500), ("EMAIL", 400), ("MEETING", 150), ("NOTE", 250), ("TASK", 120)),
        ("COMMUNICATION", 80),
    ):
        for _ in range(count):
            engagement, when = export.id("engagement"), export.moment()
            export.add("engagement", id=engagement, type=kind)
            for contact in export.some(contacts):
                export.add(
                    "engagement_contact",
                    engagement_id=engagement,
                    contact_id=contact.id,
                    engagement_type=kind,
                )
            _engagement(export, kind, engagement, when, export.random.choice(owners))


def _engagement(export: Export, kind: str, engagement: str, when: datetime, owner: str) -> None:
    common = {"engagement_id": engagement, "_fivetran_deleted": "false", "type": kind}
    times = {"property_hs_createdate": f"{when}.000", "property_hs_timestamp": f"{when}.000"}
    owned = common | times | {"property_hubspot_owner_id": owner}
    match kind:
        case "CALL":
            export.add("engagement_call", **common, **times)
        case "COMMUNICATION":
            export.add("engagement_communication", **common, **times)
        case "EMAIL":
            subject, text = "Your order", "We sent it today."
            export.add(
                "engagement_email",
                **owned,
                property_hs_email_subject=subject,
                property_hs_email_text=text,
            )
        case "NOTE":
            export.add("engagement_note", **owned, property_hs_note_body="Prefers to be called.")
        case "TASK":
            export.add("engagement_task", **owned, property_hs_task_type="TODO")
        case _:
            end = when + timedelta(minutes=45)
            export.add(
                "engagement_meeting",
                engagement_id=engagement,
                start_time=str(when),
                end_time=str(end),
                source="CRM_UI",
                title="Demonstration",
            )


def _campaign_emails(export: Export, contacts: list[Contact]) -> None:
    chance = export.random
    campaigns = [(export.id("campaign"), name) for name in CAMPAIGNS]
    for campaign, name in campaigns:
        export.add("email_campaign", id=campaign, name=name, type="BATCH_EMAIL", subject=name)
    for _ in range(1000):
        contact, (campaign, _name) = chance.choice(contacts), chance.choice(campaigns)
        sent = export.moment()
        for number, (kind, detail) in enumerate(_fate(chance)):
            when = sent + timedelta(minutes=7 * number)
            event = export.uuid()
            export.add(
                "email_event",
                id=event,
                created=f"{when}.{chance.randrange(1000):03}",
                email_campaign_id=campaign,
                type=kind,
                filtered_event=str(chance.random() < 0.02).lower(),
                recipient=contact.email,
            )
            if kind != "PROCESSED":
                export.add(f"email_event_{DETAILS.get(kind, kind.lower())}", id=event, **detail)
    export.add("email_event_click", id=export.uuid())  # a click on an email that the export lacks


def _fate(chance: random.Random) -> list[tuple[str, Row]]:
    """Return what happens to one email."""
    found: list[tuple[str, Row]] = [("PROCESSED", {}), ("SENT", {"subject": "Look at this"})]
    fate = chance.random()
    if fate < 0.05:
        return [*found, ("BOUNCE", {"category": chance.choice(BOUNCES), "status": "550"})]
    if fate < 0.08:
        return [("DROPPED", {"drop_reason": "PREVIOUSLY_BOUNCED"})]
    if fate < 0.12:
        found.append(("DEFERRED", {"attempt": "1", "response": "try later"}))
    found.append(("DELIVERED", {"response": "250 OK"}))
    if fate > 0.5:
        found.append(("OPEN", {"duration": "4000"}))
    if fate > 0.8:
        found.append(("CLICK", {"url": "https://example.com/offer"}))
    if fate > 0.97:
        left = {"portal_subscription_status": "UNSUBSCRIBED", "source": "SOURCE_RECIPIENT"}
        found.append(("STATUSCHANGE", left))
    elif fate > 0.96:
        found.append(("SPAMREPORT", {}))
    elif fate > 0.95:
        found += [("FORWARD", {}), ("PRINT", {})]
    return found


def _lists_and_forms(export: Export, contacts: list[Contact]) -> None:
    chance = export.random
    lists = [export.id("list") for _ in LISTS]
    for number, name in zip(lists, LISTS, strict=True):
        export.add("contact_list", id=number, _fivetran_deleted="false", name=name)
    for contact in contacts:
        for number in chance.sample(lists, chance.randrange(3)):
            export.add(
                "contact_list_member",
                contact_id=contact.id,
                contact_list_id=number,
                _fivetran_deleted=str(chance.random() < 0.1).lower(),
                added_at=f"{export.moment()}.500",
            )
    forms = [export.id("form") for _ in FORMS]
    for number, name in zip(forms, FORMS, strict=True):
        export.add("form", guid=number, name=name, form_type="REGULAR")
    for _ in range(300):
        chosen = chance.randrange(len(forms))
        export.add(
            "contact_form_submission",
            timestamp=str(export.moment()),
            form_id=forms[chosen],
            contact_id=chance.choice(contacts).id,
            conversion_id=export.uuid(),
            page_url=f"https://example.com/forms/{chosen}",
            title=FORMS[chosen],
        )


def _deals(export: Export, contacts: list[Contact], owners: list[str]) -> None:
    chance = export.random
    export.add("deal_pipeline", pipeline_id="default", label="Sales")
    for stage, label in DEAL_STAGES:
        export.add("deal_pipeline_stage", stage_id=stage, label=label, pipeline_id="default")
    for _ in range(120):
        deal, created = export.id("deal"), export.moment(before=EXPORT - timedelta(days=90))
        reached = DEAL_STAGES[: chance.randrange(1, 4)]
        export.add(
            "deal",
            deal_id=deal,
            is_deleted="false",
            deal_pipeline_id="default",
            deal_pipeline_stage_id=reached[-1][0],
            owner_id=chance.choice(owners),
            property_dealname="Frames",
            property_amount=f"{chance.randrange(100, 9000)}.50",
            property_createdate=str(created),
        )
        for contact in export.some(contacts):
            export.add("deal_contact", deal_id=deal, contact_id=contact.id)
        for stage, _label in reached:
            entered = str(export.moment(created, created + timedelta(days=80))).replace(" 0", " ")
            export.add("deal_stage", deal_id=deal, value=stage, date_entered=entered)


def main() -> None:
    """Write an export."""
    parser = argparse.ArgumentParser(description="Write the export of a CRM that never was.")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    export = generate(given.seed)
    export.write(given.out)
    rows = sum(len(rows) for rows in export.rows.values())
    print(f"{rows:,} rows in {len(export.rows)} files in {given.out}")  # noqa: T201


if __name__ == "__main__":
    main()
