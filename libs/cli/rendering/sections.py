"""What each view shows, and in which order."""

from datetime import datetime

from libs.cli.rendering import items, words
from libs.cli.rendering.sheets import Section, Sheet
from touchline.profile.v1 import views_pb2 as views

View = views.SalesView | views.ServiceView | views.MarketingView | views.CustomerView


def sheet(view: View, now: datetime) -> Sheet:
    """Puts a view into words.

    Args:
        view: The view of sales, service, marketing or the customer.
        now: The present, in the reader's time zone.
    """
    match view:
        case views.SalesView():
            return _sales(view, now)
        case views.ServiceView():
            return _service(view, now)
        case views.MarketingView():
            return _marketing(view, now)
        case _:
            return _customer(view, now)


def _sales(view: views.SalesView, now: datetime) -> Sheet:
    totals = " + ".join(words.money(total) for total in view.order_totals)
    ordered = words.count(view.order_count, "order") if view.order_count else ""
    remark = " · ".join(part for part in (ordered, totals) if part)
    sections = (
        Section("Promises", [items.promise(one, now) for one in view.promises], "None open."),
        Section("Signals", [items.signal(one, now) for one in view.signals], "Nothing to know."),
        Section(
            "Contacts that counted",
            [items.contact(one, now) for one in view.meaningful_contacts],
            "None yet.",
        ),
        Section("Orders", [items.order(one, now) for one in view.orders], "None yet.", remark),
    )
    return Sheet("Sales", "what was said, bought and promised", sections)


def _service(view: views.ServiceView, now: datetime) -> Sheet:
    sections = (
        Section("Open cases", [items.case(one, now) for one in view.open_cases], "None open."),
        Section(
            "Unanswered",
            [items.contact(one, now) for one in view.unanswered_messages],
            "All answered.",
        ),
        Section("Promises", [items.promise(one, now) for one in view.promises], "None open."),
        Section(
            "Last contacts",
            [items.brief_contact(one, now) for one in view.last_contacts],
            "None yet.",
        ),
    )
    return Sheet("Service", "what is open, unanswered and due", sections)


def _marketing(view: views.MarketingView, now: datetime) -> Sheet:
    sections = (
        Section("Consents", [items.consent(one, now) for one in view.consents], "Nothing said."),
        Section(
            "Campaigns",
            [items.campaign(one, now) for one in view.campaigns],
            "None reached the customer.",
        ),
        Section(
            "Channels", [items.channel(one, now) for one in view.channels], "None used.", most=10
        ),
        Section("Products", [items.product(one, now) for one in view.products], "None used."),
    )
    return Sheet("Marketing", "where, how often, with whose leave", sections)


def _customer(view: views.CustomerView, now: datetime) -> Sheet:
    sections = (
        Section("We promised you", [items.promise(one, now) for one in view.promises], "Nothing."),
        Section(
            "We know about you",
            [items.known(one, now) for one in view.known_facts],
            "Nothing.",
            most=10,
        ),
        Section(
            "Your consent",
            [items.consent(one, now) for one in view.consents],
            "You told us nothing.",
        ),
        Section("Your orders", [items.order(one, now) for one in view.orders], "None yet."),
        Section(
            "Our contacts", [items.brief_contact(one, now) for one in view.contacts], "None yet."
        ),
    )
    return Sheet("Customer", "what you may see of yourself", sections)
