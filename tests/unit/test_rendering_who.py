"""Who is who, what is allowed and what was erased, as a terminal shows it at any width."""

from datetime import timedelta
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from libs.cli import erasing
from libs.cli.erasing import Certificate, CertificateError, Checked
from libs.cli.rendering import consents, erasure, links, merges, people, terms
from libs.cli.rendering.merges import Decided
from tests.terminal import NOW, joined, shown
from touchline.events.v1 import decisions_pb2 as decisions
from touchline.events.v1 import facts_pb2 as facts
from touchline.events.v1 import identity_pb2 as ids
from touchline.profile.v1 import consents_pb2 as consent_messages
from touchline.profile.v1 import erasure_pb2 as erasures
from touchline.profile.v1 import identities_pb2 as identities
from touchline.profile.v1 import profile_pb2 as profiles
from touchline.profile.v1 import profile_service_pb2 as api
from touchline.projection.v1.projection_service_pb2 import ErasureCheck

WIDTHS = pytest.mark.parametrize("width", [60, 80, 120, 200])
EVENT = "018f3c5e-7c1a-7d4e-8a3b-2f6d9c0e1a2b"
ANN, BEN = "9f2c41d0a7b3e85c6d10f4428be7713a", "13a5cebd5f8d2fcb41073605a5a905d2"
STEERING = "\x1b[31mred\u202e"


def ago(minutes: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(NOW - timedelta(minutes=minutes))
    return stamp


def email(value: str, position: int = 7) -> profiles.ProfileIdentity:
    one = ids.Identity(kind=ids.IDENTITY_KIND_EMAIL, value=value)
    return profiles.ProfileIdentity(identity=one, first_position=position)


def ann(**known: str) -> profiles.Profile:
    profile = profiles.Profile(
        profile_id=ANN,
        version=3,
        event_count=12,
        identities=[email("ann@example.com"), email("", 9)],
        alias_profile_ids=[BEN],
        first_contact_at=ago(9000),
        last_contact_at=ago(5),
    )
    for name, value in known.items():
        profile.attributes.add(
            name=name,
            value=value,
            event_id=EVENT,
            source="crm",
            observations=2,
            occurred_at=ago(90),
        )
    return profile


def side(profile_id: str, *values: str, version: int = 1) -> identities.SuggestedProfile:
    return identities.SuggestedProfile(
        profile_id=profile_id,
        version=version,
        identities=[email(value) for value in values],
        identity_count=len(values) + 30,
    )


def link(
    effect: identities.LinkEffect.ValueType,
    rule: identities.LinkRule.ValueType = identities.LINK_RULE_STRONG,
) -> identities.IdentityLink:
    return identities.IdentityLink(
        left=email("ann@example.com"),
        right=email("a.long.address.of.ann@work.example.com"),
        rule=rule,
        effect=effect,
        event_id=EVENT,
        occurred_at=ago(2000),
        source="shop",
        events=3,
    )


@WIDTHS
def test_who_a_customer_is_says_how_that_is_known(width: int) -> None:
    profile = ann(city="Graz", name=f"Ann {STEERING}")
    profile.attributes_truncated = True
    text = shown(people.person(profile, now=NOW, alias=BEN, as_of=NOW), width)
    assert "\u202e" not in text
    said = joined(text)
    for told in ("Ann [31mred 12 events", "version 3", "as it was today 15:20", "email erased"):
        assert told in said
    assert "asked by 13a5cebd5f8d…, an id that this profile absorbed" in said
    assert said.index("Name") < said.index("City")


def test_an_erased_customer_names_nobody() -> None:
    profile = ann()
    profile.erased_at.CopyFrom(ago(1))
    text = joined(shown(people.person(profile, now=NOW)))
    assert "∅ erased today 15:19: what is left names nobody" in text


@WIDTHS
@pytest.mark.parametrize("name", ["city", ""])
def test_a_history_marks_what_holds(width: int, name: str) -> None:
    values = [
        erasures.AttributeValue(
            name="city", value=value, event_id=EVENT, occurred_at=ago(9), recorded_at=ago(8),
            source="crm", actor_reference="agent-7", current=value == "Graz",
        )
        for value in ("Graz", "Wien", "")
    ]  # fmt: skip
    text = joined(shown(people.history(name, values, now=NOW, more=True), width))
    assert "Wien" in text
    assert text.count("✓") == 1
    assert "never observed" in shown(people.history(name, [], now=NOW), width)


@WIDTHS
def test_what_was_found_says_whether_it_still_holds(width: int) -> None:
    value = erasures.AttributeValue(name="city", value="Graz", occurred_at=ago(9), source="crm")
    found = [api.FoundProfile(profile_id=ANN, value=value)]
    text = shown(people.found(found, {ANN: "Ann"}, now=NOW), width)
    assert "Ann" in text
    assert "former value" in text
    assert "nobody ever had that" in shown(people.found([], {}, now=NOW), width)


@WIDTHS
def test_links_say_rule_effect_event_and_who_decided(width: int) -> None:
    listed = [link(effect) for effect in identities.LinkEffect.values() if effect]
    listed += [link(identities.LINK_EFFECT_JOINS, rule) for rule in identities.LinkRule.values()]
    verdicts = [
        identities.IdentityVerdict(
            event_id=EVENT, kind=kind, decided_at=ago(5), decided_by="agent-7", reason="She said.",
            revoked=bool(kind % 2), left_identities=2, right_identities=1,
        )
        for kind in decisions.IdentityDecisionKind.values()
    ]  # fmt: skip
    text = joined(shown(links.links(listed, verdicts, now=NOW, more=True), width))
    for told in ("✓ joins", "= confirms", "▲ clashes", "✗ cut", "strong", "cookie", "taken back"):
        assert told in text
    assert "agent-7" in text
    assert "nothing does" in shown(links.links([], [], now=NOW), width)


@WIDTHS
def test_a_decision_shows_the_profiles_before_and_after(width: int) -> None:
    result = api.DecisionResult(
        event_id=EVENT, position=7, profiles=[side(ANN, "ann@example.com", version=4)]
    )
    one = Decided("merged: they are one person", [ann(name="Ann"), ann()], result, [("undo", "so")])
    text = joined(shown(merges.decided(one, {ANN: "Ann"}), width))
    assert text.index("before") < text.index("after")
    assert "✓ merged: they are one person" in text
    assert "and 30 more" in text
    assert "undo so" in text


@WIDTHS
def test_a_suggestion_shows_both_sides_and_what_links_them(width: int) -> None:
    one = identities.MergeSuggestion(
        suggestion_id=BEN + ANN,
        left=side(ANN, "ann@example.com"),
        right=side(BEN, "ben@example.com"),
        links=[link(identities.LINK_EFFECT_CLASHES)],
        link_count=9,
    )
    text = shown(merges.suggestions([one], {}, now=NOW, more=True), width)
    said = joined(text)
    assert "ben@example.com" in text.replace("\n", "")
    assert "and 8 more links" in said
    assert "touchline suggestions accept ID" in said
    assert "nothing is suggested" in shown(merges.suggestions([], {}, now=NOW), width)


@WIDTHS
def test_consents_say_what_decides_under_which_identity(width: int) -> None:
    def word(minutes: int, **more: object) -> consent_messages.ConsentWord:
        said = consent_messages.ConsentWord(event_id=EVENT, source="shop", **more)  # type: ignore[arg-type]
        said.identities.append(email("ann@example.com"))
        said.occurred_at.CopyFrom(ago(minutes))
        return said

    no, yes = facts.CONSENT_STATUS_WITHDRAWN, facts.CONSENT_STATUS_GRANTED
    allowed = consent_messages.ConsentState(purpose="news", status=no, channel=facts.CHANNEL_EMAIL)
    allowed.words.append(word(9, consent_status=no, proof="form 7", counts=True, decides=True))
    allowed.words.append(word(90, consent_status=yes))
    liked = consent_messages.PreferenceState(status=facts.PREFERENCE_STATUS_AVOIDED)
    liked.words.append(word(5, preference_status=facts.PREFERENCE_STATUS_AVOIDED, counts=True))
    text = joined(
        shown(consents.standing([allowed], [liked], who="Ann", now=NOW, as_of=NOW), width)
    )
    for told in ("✗ forbidden", "avoided", "✓ forbidden", "News", "every", "15:11", "form 7"):
        assert told in text
    nothing = consents.standing([], [], who="", now=NOW)
    assert "nothing was said" in shown(nothing, width)


@WIDTHS
def test_a_consent_that_was_erased_says_that_it_counts_as_forbidden(width: int) -> None:
    no = facts.CONSENT_STATUS_WITHDRAWN
    gone = consent_messages.ConsentWord(event_id=EVENT, consent_status=no, decides=True)
    gone.identities.append(email("ann@example.com"))
    gone.occurred_at.CopyFrom(ago(9))
    allowed = consent_messages.ConsentState(purpose="news", status=no, words=[gone])
    text = joined(shown(consents.standing([allowed], [], who="Ann", now=NOW), width))
    assert text.count("erased, so it counts as forbidden") == 2


def erased(*, between: bool = False) -> erasures.Erased:
    one = erasures.Erased(
        erasure_id=EVENT, profile_id=ANN, position=54, erased_at=ago(1), identity_keys=[ANN, BEN],
        deleted_keys=2, erased_events=8, discarded_rejected_events=1, reason="R-17",
        requested_by="dpo-1",
    )  # fmt: skip
    if between:
        getattr(one.occurred, "from").CopyFrom(ago(9000))
    return one


CLEAN = Checked("profile", [ErasureCheck(what="timeline", shut=8)], (("timeline", 60),))
LEFT = Checked("engagement", [ErasureCheck(what="outbox", left=2), ErasureCheck(what="identities")])
SILENT = Checked("notification", failure="it does not answer")


@WIDTHS
@pytest.mark.parametrize("between", [False, True])
def test_what_is_about_to_be_erased_is_shown(width: int, between: bool) -> None:
    occurred = erased(between=True).occurred if between else None
    text = shown(erasure.about_to_erase(ann(name="Ann"), occurred, "5 events", now=NOW), width)
    said = joined(text)
    assert "Ann" in said
    assert "5 events" in said
    assert ("and all identities" in said) is not between


@WIDTHS
@pytest.mark.parametrize(
    ("checked", "verdict"),
    [
        ((CLEAN,), "✓ Erased, and nothing is left that could tell of the customer"),
        ((CLEAN, LEFT), "✗ Erased, but 2 rows or keys are left"),
        ((CLEAN, LEFT, SILENT), "2 rows or keys are left and 1 service could not be asked"),
        ((), "Erased, not checked"),
    ],
    ids=["clean", "left", "silent", "unchecked"],
)
def test_a_certificate_says_what_was_done_and_how_it_was_checked(
    width: int, checked: tuple[Checked, ...], verdict: str
) -> None:
    one = Certificate(erased(), checked, NOW if checked else None)
    text = joined(shown(erasure.certificate(one, now=NOW, again="erase --again x"), width))
    assert verdict in text
    assert one.clean is (checked == (CLEAN,))
    for told in ("R-17", "dpo-1", "position 54", "What stays, and why", "Backups", "erase --again"):
        assert told in text
    assert ("it does not answer" in text) is (SILENT in checked)


def test_a_certificate_of_a_time_says_of_which() -> None:
    one = Certificate(erased(between=True), (CLEAN,), NOW)
    text = joined(shown(erasure.certificate(one, now=NOW)))
    assert "nothing is left that could tell of that time" in text
    assert "only what occurred from Wed 28 Oct 2026 09:20" in text
    assert "9999" not in text


def test_a_certificate_is_written_for_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    path.write_text("an older one")
    one = Certificate(erased(between=True), (CLEAN, LEFT, SILENT), NOW, tenant="acme")
    erasing.write(one, path)
    assert path.stat().st_mode & 0o077 == 0
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    again = erasing.read(path)
    assert (again.erased, again.tenant) == (one.erased, "acme")
    assert '"nothing_left": false' in path.read_text()


@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"kind": "touchline.erasure/1"}', '{"kind": "other", "erased": {}}', "\x00"],
    ids=["empty", "nothing", "list", "kind-alone", "other-kind", "binary"],
)
def test_what_is_no_certificate_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "file"
    with pytest.raises(CertificateError, match="can't be read"):
        erasing.read(path)
    path.write_text(content)
    with pytest.raises(CertificateError, match="no certificate"):
        erasing.read(path)


@pytest.mark.parametrize(
    ("known", "name"),
    [
        ({"name": "Ann Ott", "firstname": "Annabel"}, "Ann Ott"),
        ({"firstname": "Ann", "lastname": "Ott"}, "Ann Ott"),
        ({"Last_Name": "Ott"}, "Ott"),
        ({"city": "Kiel"}, ""),
    ],
)
def test_a_customer_is_called_by_whichever_names_their_systems_know(
    known: dict[str, str], name: str
) -> None:
    assert terms.profile_name(ann(**known)) == name
