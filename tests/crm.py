"""What an export of a CRM says, by plain reading of its files: what its import is held against."""

import csv
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Row = dict[str, str]
Reference = tuple[str, str, str]
"""(file, column, what it refers to)."""

ENGAGEMENTS: Final = {
    "call": ("interaction", "CALL"),
    "communication": ("interaction", "COMMUNICATION"),
    "email": ("interaction", "EMAIL"),
    "meeting": ("interaction", "MEETING"),
    "note": ("note_added", "NOTE"),
    "task": ("custom_event", "TASK"),
}
EMAILS: Final = {
    **dict.fromkeys(("SENT", "OPEN", "CLICK"), "campaign_touched"),
    **dict.fromkeys(("BOUNCE", "DROPPED", "SPAMREPORT"), "signal_observed"),
    **dict.fromkeys(("PROCESSED", "DELIVERED", "DEFERRED", "FORWARD", "PRINT"), "custom_event"),
    "STATUSCHANGE": "consent_changed",
}
DETAILS: Final = {
    "SENT": "sent",
    "OPEN": "open",
    "CLICK": "click",
    "BOUNCE": "bounce",
    "DROPPED": "dropped",
    "SPAMREPORT": "spam_report",
    "DELIVERED": "delivered",
    "DEFERRED": "deferred",
    "FORWARD": "forward",
    "PRINT": "print",
    "STATUSCHANGE": "status_change",
}
CHANGES: Final = ("hs_pipeline_stage", "hs_ticket_priority", "subject")
TRAITS: Final = {
    "email": "property_email",
    "second_email": "property_email_1",
    "firstname": "property_firstname",
    "lastname": "property_lastname",
    "company": "property_company",
    "jobtitle": "property_jobtitle",
    "annualrevenue": "property_annualrevenue",
    "first_conversion_date": "property_first_conversion_date",
}


@dataclass(slots=True)
class Person:
    """Who several contacts are.

    Attributes:
        contacts: Their numbers.
        identities: hubspot:NUMBER, email:ADDRESS and phone:NUMBER.
        traits: What holds now.
        events: How many events their identities have.
        open_cases: The tickets that are not closed.
    """

    contacts: frozenset[str]
    identities: set[str] = field(default_factory=set)
    traits: dict[str, str] = field(default_factory=dict)
    events: int = 0
    open_cases: set[str] = field(default_factory=set)


class Crm:
    """An export, read.

    Attributes:
        contacts: The contacts that are not deleted, by number.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, list[Row]] = {}
        self._known: dict[tuple[str, str], set[str]] = {}
        self.contacts = {row["id"]: row for row in self.alive("contact")}

    def rows(self, name: str) -> list[Row]:
        """Returns a file's rows."""
        if name not in self._files:
            with (self.folder / f"{name}_data.csv").open(encoding="utf-8-sig", newline="") as file:
                read = list(csv.DictReader(file))
            # An import takes the white space around a cell away.
            self._files[name] = [{k: v.strip() for k, v in row.items()} for row in read]
        return self._files[name]

    def alive(self, name: str) -> list[Row]:
        """Returns a file's rows that are not marked as deleted."""
        return [row for row in self.rows(name) if not _is_deleted(row)]

    def events(self) -> Iterator[tuple[str, str]]:
        """Tells (contact's number or recipient's address, fact) of each event there must be."""
        for number in self.contacts:
            yield number, "traits_observed"
            yield number, "traits_observed"
        for number, fact in self._of_contacts():
            if number in self.contacts:
                yield number, fact
        for row in self.rows("email_event"):
            if row["filtered_event"] != "true":
                yield row["recipient"], EMAILS[row["type"]]

    def _of_contacts(self) -> Iterator[tuple[str, str]]:
        for row in self.rows("contact_property_history"):
            yield row["contact_id"], "traits_observed"
        for row in self.rows("contact_list_member"):
            yield row["contact_id"], "custom_event"
            if _is_deleted(row):
                yield row["contact_id"], "custom_event"
        for row in self.rows("contact_form_submission"):
            yield row["contact_id"], "interaction"
        yield from self._of_engaged()
        yield from self._of_cases_and_deals()

    def _of_engaged(self) -> Iterator[tuple[str, str]]:
        for kind, (fact, type_name) in ENGAGEMENTS.items():
            whose = self._whose("engagement", engagement_type=type_name)
            for row in self.alive(f"engagement_{kind}"):
                yield from ((number, fact) for number in whose[row["engagement_id"]])

    def _of_cases_and_deals(self) -> Iterator[tuple[str, str]]:
        whose, known = self._whose("ticket"), {row["id"] for row in self.alive("ticket")}
        for row in self.alive("ticket"):
            for number in whose[row["id"]]:
                yield number, "case_changed"
                if row["property_closed_date"]:
                    yield number, "case_changed"
        for row in self.rows("ticket_property_history"):
            if row["name"] in CHANGES and row["ticket_id"] in known:
                yield from ((number, "case_changed") for number in whose[row["ticket_id"]])
        whose, known = self._whose("deal"), {row["deal_id"] for row in self.alive("deal")}
        for row in [*self.alive("deal"), *self.rows("deal_stage")]:
            if row["deal_id"] in known:
                yield from ((number, "custom_event") for number in whose[row["deal_id"]])

    def _whose(self, kind: str, **only: str) -> defaultdict[str, list[str]]:
        found = defaultdict(list)
        for row in self.rows(f"{kind}_contact"):
            if only.items() <= row.items():
                found[row[f"{kind}_id"]].append(row["contact_id"])
        return found

    def merges(self) -> list[tuple[str, str]]:
        """Returns the merges of two contacts that are both there, each once."""
        told = [(r["canonical_vid"], r["vid_to_merge"]) for r in self.rows("contact_merge_audit")]
        for number, row in self.contacts.items():
            merged = row["property_hs_merged_object_ids"].split(";")
            told += [(number, other) for other in merged if other]
        both = [pair for pair in told if self.contacts.keys() >= set(pair)]
        return list(dict.fromkeys(both))

    def people(self, merges: list[tuple[str, str]]) -> list[Person]:
        """Returns who is who after merges, and what holds of each."""
        of = {number: {number} for number in self.contacts}
        for one, other in merges:
            both = of[one] | of[other]
            of.update(dict.fromkeys(both, both))
        people = [Person(frozenset(one)) for one in {frozenset(group) for group in of.values()}]
        events = Counter(whom for whom, _ in self.events())
        phones, traits, cases = self.phone_owners(), self._traits(), self._open_cases()
        for person in people:
            for number in person.contacts:
                email = self.contacts[number]["property_email"]
                person.identities |= {f"hubspot:{number}", f"email:{email}"}
                person.identities |= {
                    f"phone:{one}" for one, who in phones.items() if who == number
                }
                person.events += events[number] + events[email]
                person.open_cases |= cases[number]
            told = sorted(one for number in person.contacts for one in traits[number])
            holds = {name: value for _, name, value in told}
            person.traits = {name: value for name, value in holds.items() if value}
        return people

    def phone_owners(self) -> dict[str, str]:
        """Returns who had each phone number first: the contact that keeps it."""
        told = [row for row in self._history() if row["name"] == "phone"]
        told.sort(key=lambda row: row["timestamp"], reverse=True)
        return {row["value"]: row["contact_id"] for row in told}

    def _history(self) -> list[Row]:
        history = self.rows("contact_property_history")
        return [row for row in history if row["contact_id"] in self.contacts]

    def _traits(self) -> defaultdict[str, list[tuple[str, str, str]]]:
        found = defaultdict(list)
        for number, row in self.contacts.items():
            created = row["property_createdate"]
            found[number].append((f"{created}.000", "createdate", created))
            synced = f"{row['_fivetran_synced']}.000"
            found[number] += [(synced, name, row[c]) for name, c in TRAITS.items() if row[c]]
        for row in self._history():
            found[row["contact_id"]].append((row["timestamp"], row["name"], row["value"]))
        return found

    def _open_cases(self) -> defaultdict[str, set[str]]:
        found = defaultdict(set)
        whose = self._whose("ticket")
        for row in self.alive("ticket"):
            if not row["property_closed_date"]:
                for number in whose[row["id"]]:
                    found[number].add(row["id"])
        return found

    def suggestions(self, people: list[Person]) -> set[frozenset[str]]:
        """Returns which pairs are only suggested: a contact, and whose address or phone it shares.

        Each side is told by its least identity.
        """
        of = {one: min(person.identities) for person in people for one in person.identities}
        found = set()
        for number, row in self.contacts.items():
            if row["property_email_1"]:
                other = f"email:{row['property_email_1']}"
                found.add(frozenset({of[f"hubspot:{number}"], of.get(other, other)}))
        for row in self._history():
            if row["name"] == "phone":
                here, there = f"hubspot:{row['contact_id']}", f"phone:{row['value']}"
                found.add(frozenset({of[here], of[there]}))
        return {pair for pair in found if len(pair) == 2}

    def unresolved(self) -> Counter[Reference]:
        """Counts the references that lead nowhere."""
        found: Counter[Reference] = Counter()
        for file, column, key, target, times in self._references():
            if key and key not in self._keys(*target):
                found[(f"{file}_data.csv", column, f"{target[0]}_data.csv {target[1]}")] += times
        return found

    def _keys(self, name: str, column: str) -> set[str]:
        if (name, column) not in self._known:
            of_things = name in ("contact", "ticket", "deal")
            rows = self.alive(name) if of_things else self.rows(name)
            self._known[name, column] = {row[column] for row in rows}
        return self._known[name, column]

    def _references(self) -> Iterator[tuple[str, str, str, tuple[str, str], int]]:
        """Tells (file, column, key, (file, column) that has it, how often the import asks)."""
        contact = ("contact", "id")
        for row in self.rows("contact_property_history"):
            yield "contact_property_history", "contact_id", row["contact_id"], contact, 1
        for row in self.rows("contact_list_member"):
            times = 2 if _is_deleted(row) else 1
            at = "contact_list_member"
            yield at, "contact_id", row["contact_id"], contact, times
            yield at, "contact_list_id", row["contact_list_id"], ("contact_list", "id"), times
        for row in self.rows("contact_form_submission"):
            yield "contact_form_submission", "contact_id", row["contact_id"], contact, 1
            yield "contact_form_submission", "form_id", row["form_id"], ("form", "guid"), 1
        for row in self.rows("contact_merge_audit"):
            for column in ("canonical_vid", "vid_to_merge"):
                yield "contact_merge_audit", column, row[column], contact, 1
        for row in self.contacts.values():
            for one in row["property_hs_merged_object_ids"].split(";"):
                yield "contact", "property_hs_merged_object_ids", one, contact, 1
        yield from self._of_engagements()
        yield from self._of_emails()
        yield from self._of_tickets_and_deals()

    def _of_engagements(self) -> Iterator[tuple[str, str, str, tuple[str, str], int]]:
        for kind, (_, type_name) in ENGAGEMENTS.items():
            whose = self._whose("engagement", engagement_type=type_name)
            file, column = f"engagement_{kind}", "engagement_id"
            for row in self.alive(file):
                yield file, column, row[column], ("engagement", "id"), 1
                owner = row.get("property_hubspot_owner_id", "")
                yield file, "property_hubspot_owner_id", owner, ("owner", "owner_id"), 1
                if not whose[row[column]]:
                    yield file, column, row[column], ("engagement_contact", column), 1
                for number in whose[row[column]]:
                    yield file, "association.contact_id", number, ("contact", "id"), 1
            known = {row[column] for row in self.rows(file)}
            for row in self.rows("engagement_contact"):
                if row["engagement_type"] == type_name and row[column] not in known:
                    yield "engagement_contact", column, row[column], (file, column), 1

    def _of_emails(self) -> Iterator[tuple[str, str, str, tuple[str, str], int]]:
        for row in self.rows("email_event"):
            if row["filtered_event"] != "true":
                campaign = row["email_campaign_id"]
                yield "email_event", "email_campaign_id", campaign, ("email_campaign", "id"), 1
                if row["type"] in DETAILS:
                    detail = f"email_event_{DETAILS[row['type']]}"
                    yield "email_event", "id", row["id"], (detail, "id"), 1
        for detail in DETAILS.values():
            for row in self.rows(f"email_event_{detail}"):
                yield f"email_event_{detail}", "id", row["id"], ("email_event", "id"), 1

    def _of_tickets_and_deals(self) -> Iterator[tuple[str, str, str, tuple[str, str], int]]:
        whose = self._whose("ticket")
        tickets = [("ticket", "id", row) for row in self.alive("ticket")]
        closed = [one for one in tickets if one[2]["property_closed_date"]]
        changes = [
            ("ticket_property_history", "ticket_id", row)
            for row in self.rows("ticket_property_history")
            if row["name"] in CHANGES
        ]
        for file, column, row in [*tickets, *closed, *changes]:
            yield from self._association(file, column, row[column], "ticket", whose)
        for _, _, row in closed:
            owner = row["property_hubspot_owner_id"]
            yield "ticket", "property_hubspot_owner_id", owner, ("owner", "owner_id"), 1
        for file, column, row in changes:
            yield file, column, row[column], ("ticket", "id"), 1
            if row["name"] == "hs_pipeline_stage":
                yield file, "value", row["value"], ("ticket_pipeline_stage", "stage_id"), 1
        whose, stage = self._whose("deal"), ("deal_pipeline_stage", "stage_id")
        for row in self.alive("deal"):
            yield from self._association("deal", "deal_id", row["deal_id"], "deal", whose)
            yield "deal", "owner_id", row["owner_id"], ("owner", "owner_id"), 1
            yield "deal", "deal_pipeline_stage_id", row["deal_pipeline_stage_id"], stage, 1
        for row in self.rows("deal_stage"):
            yield from self._association("deal_stage", "deal_id", row["deal_id"], "deal", whose)
            yield "deal_stage", "deal_id", row["deal_id"], ("deal", "deal_id"), 1
            yield "deal_stage", "value", row["value"], stage, 1
        for kind, column in (("ticket", "id"), ("deal", "deal_id")):
            known = {row[column] for row in self.rows(kind)}
            for row in self.rows(f"{kind}_contact"):
                if row[f"{kind}_id"] not in known:
                    yield f"{kind}_contact", f"{kind}_id", row[f"{kind}_id"], (kind, column), 1

    def _association(
        self, file: str, column: str, key: str, kind: str, whose: defaultdict[str, list[str]]
    ) -> Iterator[tuple[str, str, str, tuple[str, str], int]]:
        if not whose[key]:
            yield file, column, key, (f"{kind}_contact", f"{kind}_id"), 1
        for number in whose[key]:
            yield file, "association.contact_id", number, ("contact", "id"), 1


def _is_deleted(row: Row) -> bool:
    marks = (row.get("_fivetran_deleted", ""), row.get("is_deleted", ""))
    return any(mark.lower() == "true" for mark in marks)
