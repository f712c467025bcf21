"""A timeline shows what happened to a person who reads it at any width, with or without colour."""

from datetime import timedelta

import pytest

from libs.cli.population import population
from libs.cli.rendering import palette
from libs.cli.rendering.timeline import timeline
from libs.cli.story import story
from libs.cli.story.telling import Teller, email, employee, promised
from tests.terminal import NOW, entries, joined, shown
from touchline.events.v1 import event_pb2 as ev
from touchline.events.v1 import facts_pb2 as facts
from touchline.profile.v1 import profile_pb2 as profiles

PROFILE = "9f2c41d0a7b3e85c6d10f4428be7713a"
WIDTHS = pytest.mark.parametrize("width", [60, 80, 120, 200])
TELLER = Teller("test", NOW)
WHOM = [email("someone@example.com")]


def told(*all_of_them: ev.Event, width: int = 120, full: bool = False) -> str:
    """Shows a timeline of events, given in the order they happened."""
    return shown(timeline(PROFILE, entries(all_of_them), now=NOW, full=full), width)


def contact(label: str, minutes_ago: int, conversation: str = "", **said: object) -> ev.Event:
    fact = facts.Interaction(channel=facts.CHANNEL_CHAT, direction=facts.DIRECTION_INBOUND)
    fact.MergeFrom(facts.Interaction(**said))  # type: ignore[arg-type]
    when = TELLER.ago(minutes_ago)
    return TELLER.event(label, when, WHOM, fact, source="chat", conversation=conversation)


@WIDTHS
def test_the_whole_story_fits_and_says_what_matters(width: int) -> None:
    known = profiles.Profile(profile_id=PROFILE)
    known.attributes.add(name="name", value="Ines Falk")
    text = shown(timeline(PROFILE, entries(story(NOW)), now=NOW, profile=known), width)
    said = joined(text)
    for fact in (
        f"Ines Falk 40 events · 20 Sep {palette.DASH} 3 Nov",
        "Tue 3 Nov 2026 · today",
        "Order S-50731 placed",
        "€ 2,480.00",
        f"1 {palette.TIMES} Ember 60 kiln, 2 {palette.TIMES} Set of shelves",
        "Promise broken: A replacement controller arrives",
        "Promise kept: The kiln stands in the courtyard",
        "No longer allows newsletter by email",
        "No longer counts: Case K-3391 closed",
        "12 min",
        "public",
        "Device fault",
    ):
        assert fact in said
    assert text.index("Your courier writes") < text.index("Which kiln runs")


@WIDTHS
def test_every_kind_of_fact_and_generated_history_fits(width: int) -> None:
    told(*population(NOW, customers=8), width=width)


@WIDTHS
def test_an_empty_timeline_says_so(width: int) -> None:
    assert "nothing has happened yet" in told(width=width)


def test_successive_uses_of_a_product_become_one_line() -> None:
    used = [
        TELLER.event(
            f"use-{index}",
            TELLER.ago(300 - index),
            WHOM,
            facts.ProductUsed(product="Atlas", feature="maps", duration_seconds=600),
            source="app",
        )
        for index in range(20)
    ]
    text = joined(told(*used))
    assert "Used Atlas 20 times · 3 h 20 min" in text
    assert text.count("Atlas") == 1


def test_uses_with_something_between_them_stay_apart() -> None:
    use = facts.ProductUsed(product="Atlas", duration_seconds=600)
    first = TELLER.event("a", TELLER.ago(30), WHOM, use, source="app")
    last = TELLER.event("b", TELLER.ago(10), WHOM, use, source="app")
    text = told(first, contact("between", 20, title="Between"), last)
    assert text.count("Used Atlas") == 2


def test_conversations_with_several_entries_get_letters_the_oldest_first() -> None:
    text = told(
        contact("1", 60, "first", title="One"),
        contact("2", 50, "second", title="Two"),
        contact("3", 40, "first", title="Three"),
        contact("4", 30, "second", title="Four"),
        contact("5", 20, "alone", title="Five"),
    )
    lettered = {line.split()[-1]: line.split()[1] for line in text.splitlines() if "chat" in line}
    assert lettered == {"One": "A", "Two": "B", "Three": "A", "Four": "B", "Five": "●"}
    assert "A-B same conversation" in text


def test_a_promise_shows_its_deadline_and_how_it_stands() -> None:
    def promise(name: str, hours: int) -> ev.Event:
        made = promised(name, f"The {name}", NOW + timedelta(hours=hours))
        agent = employee("agent-7")
        return TELLER.event(name, TELLER.ago(3000), WHOM, made, source="desk", actor=agent)

    ended = facts.ExpectationResolved(expectation_id="vase", outcome=facts.EXPECTATION_OUTCOME_KEPT)
    end = TELLER.event("end", TELLER.ago(5), WHOM, ended, source="desk", actor=employee("agent-7"))
    text = joined(told(promise("jug", 26), promise("bowl", -3), promise("vase", 1), end))
    assert "The jug due tomorrow 17:20" in text
    assert "The bowl due today 12:20 · overdue" in text
    assert "The vase due today 16:20 · kept" in text
    assert "Promise kept: The vase" in text


def test_a_promise_ends_by_its_name_whichever_source_tells_it() -> None:
    made = promised("p-1", "The jug", NOW - timedelta(hours=1))
    made.team, made.rules[:] = "team:desk", ["answers"]
    missed = facts.ExpectationResolved(
        expectation_id="p-1", outcome=facts.EXPECTATION_OUTCOME_BROKEN, promise="The jug"
    )
    first = TELLER.event("made", TELLER.ago(90), WHOM, made, source="crm")
    last = TELLER.event("missed", TELLER.ago(5), WHOM, missed, source="notification")
    text = joined(told(first, last))
    assert "The jug due today 14:20 · broken · by team:desk · rule answers" in text
    assert "Promise broken: The jug" in text
    assert "Promise broken: The jug" in joined(told(last))


def test_a_promise_that_was_kept_before_its_deadline_broke_it_is_shown_as_kept() -> None:
    due = NOW - timedelta(hours=1)
    made = TELLER.event(
        "glaze", TELLER.ago(90), WHOM, promised("p-2", "The glaze", due), source="crm"
    )
    kept = facts.ExpectationResolved(expectation_id="p-2", outcome=facts.EXPECTATION_OUTCOME_KEPT)
    proof = TELLER.event("proof", TELLER.ago(70), WHOM, kept, source="desk")
    broken = facts.ExpectationResolved(
        expectation_id="p-2", outcome=facts.EXPECTATION_OUTCOME_BROKEN
    )
    decided_by = ev.Actor(kind=ev.ACTOR_KIND_SYSTEM, reference="notification")
    passed = TELLER.event("passed", due, WHOM, broken, source="notification", actor=decided_by)
    assert "The glaze due today 14:20 · kept" in joined(told(made, proof, passed))
    assert "The glaze due today 14:20 · broken" in joined(told(made, passed))


def test_an_erased_entry_says_so_and_nothing_else() -> None:
    entry = profiles.TimelineEntry(position=1, type=ev.EVENT_TYPE_NOTE_ADDED, erased=True)
    entry.event.occurred_at.FromDatetime(NOW)
    text = shown(timeline(PROFILE, [entry], now=NOW))
    assert "Erased at the customer's wish" in text
    assert "was a note" in text


def test_a_retraction_without_its_target_and_a_fact_from_the_future_are_shown() -> None:
    gone = facts.EventRetracted(event_id="018f0000-0000-8000-8000-000000000000", reason="A slip")
    retraction = TELLER.event("gone", TELLER.ago(9), WHOM, gone, source="desk")
    newer = ev.Event(event_id="x", source="desk")
    newer.occurred_at.FromDatetime(NOW)
    known = entries([retraction])
    text = shown(timeline(PROFILE, [profiles.TimelineEntry(event=newer, type=77), *known], now=NOW))  # type: ignore[arg-type]
    assert "An earlier entry no longer counts" in text
    assert "A slip" in text
    assert "a kind this program does not know" in text


def test_what_customers_write_cannot_steer_the_terminal() -> None:
    text = told(
        contact(
            "evil", 5, title="Hi \x1b[31mred\x1b]0;owned\x07", text="[bold]a\u202eb[/]\r\nc\x00"
        )
    )
    assert "Hi [31mred]0;owned" in text
    assert "[bold]ab[/] c" in text
    assert not set(text) & set("\x1b\x07\u202e\r\x00")


@pytest.mark.parametrize("width", [40, 80, 120])
def test_wide_characters_and_endless_words_stay_within_the_width(width: int) -> None:
    told(contact("wide", 5, title="陶芸教室の窯" * 20, text="x" * 900), width=width, full=True)


def test_a_long_text_is_cut_at_a_word_unless_asked_for() -> None:
    said = contact("long", 5, title="Long", text="word " * 200 + "end")
    assert "word…" in told(said)
    assert "end" not in told(said)
    assert "end" in told(said, full=True)
