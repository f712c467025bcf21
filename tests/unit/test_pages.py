"""The page of an export says everything, and nothing that a customer wrote becomes markup."""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from google.protobuf.message import Message

from libs.cli.exporting import LINES, PAGE, Export, ExportError
from libs.cli.pages.gathered import Gathered
from libs.cli.pages.markup import Markup, tag
from libs.cli.pages.person import person
from libs.cli.story import story
from tests.events import DECISIONS, FACTS, an_event
from tests.terminal import NOW, entries
from touchline.events.v1.event_pb2 import EVENT_TYPE_NOTE_ADDED, Event
from touchline.events.v1.facts_pb2 import CONSENT_STATUS_WITHDRAWN
from touchline.events.v1.identity_pb2 import IDENTITY_KIND_EMAIL, Identity
from touchline.profile.v1.consents_pb2 import ConsentState
from touchline.profile.v1.erasure_pb2 import AttributeValue, ExportedItem, ExportEnd
from touchline.profile.v1.identities_pb2 import IdentityVerdict
from touchline.profile.v1.profile_pb2 import Profile, ProfileIdentity, TimelineEntry
from touchline.profile.v1.profile_service_pb2 import ExportProfileResponse

HOSTILE = "</style><script>alert(1)</script><img src=x onerror='a(\"1\")'>\u202egnp.exe &amp; ]]>"
ELEMENTS = frozenset(
    {"html", "head", "meta", "title", "style", "body", "main", "header", "nav", "section", "div"}
    | {"h1", "h2", "h3", "p", "a", "small", "strong", "span", "code", "details", "summary", "time"}
    | {"table", "thead", "tbody", "tr", "th", "td", "ol", "li"}
)


class Read(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements, self.attributes, self.text = set[str](), set[str](), ""
        self._open, self.unclosed = list[str](), list[str]()
        self.feed(page)
        self.close()
        self.unclosed += self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or self._open.pop() != tag:
            self.unclosed.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def items_of(events: Sequence[Event]) -> list[ExportedItem]:
    profile = Profile(profile_id="9f2c41d0a7b3e85c6d10f4428be7713a", event_count=len(events))
    listed = [ExportedItem(profile=profile)]
    ordered = sorted(events, key=lambda one: one.occurred_at.ToMicroseconds())
    listed += [ExportedItem(entry=one) for one in entries(ordered)[::-1]]
    return [*listed, ExportedItem(end=ExportEnd(entries=len(events), position=7))]


def page_of(items: Sequence[ExportedItem]) -> str:
    gathered = Gathered()
    for item in items:
        gathered.take(item, NOW)
    return "".join(person(gathered, (one.entry for one in items if one.HasField("entry")), NOW))


def every_text(message: Message, text: str) -> None:
    """Sets every text of a message, and of those in it, to one text; ids stay."""
    for field in message.DESCRIPTOR.fields:
        told, inner = getattr(message, field.name), field.message_type
        if inner is not None and inner.GetOptions().map_entry:
            told[text] = text
        elif inner is not None and inner.full_name.startswith("touchline"):
            present = [told.add()] if field.is_repeated else [told] * message.HasField(field.name)
            for one in present:
                every_text(one, text)
        elif field.type == field.TYPE_STRING and not field.name.endswith("_id"):
            if field.is_repeated:
                told.append(text)
            else:
                setattr(message, field.name, text)


def test_text_is_escaped_wherever_it_stands_and_markup_is_not() -> None:
    made = tag("p", HOSTILE, Markup("<b>x</b>"), title=HOSTILE, class_="")
    assert made.startswith('<p title="&lt;/style&gt;&lt;script&gt;')
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in made
    assert "<b>x</b>" in made
    assert "\u202e" not in made
    assert "class" not in made


@pytest.mark.parametrize("fact", [*FACTS, *DECISIONS])
def test_every_fact_has_a_line_and_none_can_break_out(fact: str) -> None:
    event = an_event(fact)
    event.occurred_at.FromDatetime(NOW - timedelta(minutes=5))
    assert "does not know" not in page_of(items_of([event]))

    every_text(event, HOSTILE)
    page = Read(page_of(items_of([event])))
    assert page.elements <= ELEMENTS
    assert not any(name.startswith("on") or name == "src" for name in page.attributes)
    assert page.unclosed == []


def test_what_is_known_of_a_customer_can_not_break_out_either() -> None:
    who = Identity(kind=IDENTITY_KIND_EMAIL, value=HOSTILE, namespace=HOSTILE)
    profile = Profile(profile_id="0" * 32, identities=[ProfileIdentity(identity=who)])
    profile.attributes.add(name="name", value=HOSTILE)
    value = AttributeValue(name=HOSTILE, value=HOSTILE, source=HOSTILE, current=True)
    consent = ConsentState(purpose=HOSTILE, status=CONSENT_STATUS_WITHDRAWN)
    word = consent.words.add(source=HOSTILE, proof=HOSTILE, consent_status=CONSENT_STATUS_WITHDRAWN)
    word.identities.add(identity=who)
    page = page_of(
        [
            ExportedItem(profile=profile),
            ExportedItem(verdict=IdentityVerdict(decided_by=HOSTILE, reason=HOSTILE)),
            ExportedItem(attribute_value=value),
            ExportedItem(consent=consent),
            ExportedItem(end=ExportEnd()),
        ]
    )
    read = Read(page)
    assert read.elements <= ELEMENTS
    assert read.unclosed == []
    assert read.text.count("<script>") >= 8


def test_the_page_needs_nothing_from_elsewhere_and_tells_the_whole_story() -> None:
    told = [event for event in story(NOW) if not event.HasField("product_used")]
    page = page_of(items_of(told))
    assert "http" not in page.replace("http-equiv", "")
    assert "default-src &#x27;none&#x27;" in page
    assert "url(" not in page
    text = " ".join(Read(page).text.split())
    for said in (
        "What happened in 2026",
        "Order S-50731 placed",
        "you → us",
        "Promise broken: A replacement controller arrives",
        "✗ broken A replacement controller arrives",
        "No longer counts: Case K-3391 closed",
        "What is not in here",
    ):
        assert said in text
    assert not re.search(r"(today|yesterday|tomorrow) \d\d:", text)
    assert page.count("<li>") == len(told)


def test_what_was_said_keeps_its_paragraphs_and_what_was_erased_says_so() -> None:
    event = an_event()
    event.interaction.text = "Dear all,\r\n\r\nit is late.\x1b[31m"
    items = items_of([event])
    erased = Event(event_id=event.event_id, occurred_at=event.occurred_at)
    entry = TimelineEntry(event=erased, type=EVENT_TYPE_NOTE_ADDED, erased=True)
    items[-1:-1] = [ExportedItem(entry=entry)]
    page = page_of(items)
    assert '<p class="said">Dear all,\n\nit is late.[31m</p>' in page
    assert "Erased at the customer&#x27;s wish" in page
    assert "was a note" in page


def write(place: Path, items: Sequence[ExportedItem], *, force: bool = False) -> None:
    export = Export(place, force=force, now=NOW)
    try:
        export.take(ExportProfileResponse(items=items))
        export.finish()
    finally:
        export.close()


def test_an_export_is_lines_that_parse_and_files_that_only_their_owner_reads(
    tmp_path: Path,
) -> None:
    place = tmp_path / "new" / "export"
    write(place, items_of([an_event(fact) for fact in FACTS]))
    told = [json.loads(line) for line in (place / LINES).read_text().splitlines()]
    assert [one["kind"] for one in told] == ["profile", *["entry"] * len(FACTS), "end"]
    assert all(set(one) == {"kind", one["kind"]} for one in told)
    assert told[1]["entry"]["event"]["event_id"]
    assert re.match("<!DOCTYPE html>", (place / PAGE).read_text())
    assert {path.name for path in place.iterdir()} == {LINES, PAGE}
    assert all(path.stat().st_mode & 0o077 == 0 for path in (place, *place.iterdir()))


def test_an_export_that_broke_off_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="broke off"):
        write(tmp_path / "export", items_of([an_event()])[:-1])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_replaced_only_when_that_is_said(tmp_path: Path) -> None:
    place, other = tmp_path / "export", tmp_path / "export" / "other"
    write(place, items_of([an_event()]))
    other.write_text("mine")
    with pytest.raises(ExportError, match="--force"):
        write(place, items_of([]))
    assert len((place / LINES).read_text().splitlines()) == 3
    write(place, items_of([]), force=True)
    assert len((place / LINES).read_text().splitlines()) == 2
    assert other.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    with pytest.raises(ExportError, match="is a file"):
        write(other, items_of([]), force=True)
