import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.rpc import page_tokens
from libs.rpc.errors import CallError

FILTERS = b"channels=phone"


@given(st.integers(), st.text(), st.binary())
def test_a_token_gives_back_its_values(number: int, text: str, data: bytes) -> None:
    token = page_tokens.encode("timeline/1", FILTERS, number, text, data)
    assert page_tokens.decode(token, "timeline/1", FILTERS, int, str, bytes) == (number, text, data)
    assert token.isascii()
    assert not set(token) & set("+/= ")


@given(st.data())
def test_a_damaged_token_is_refused(data: st.DataObject) -> None:
    token = page_tokens.encode("timeline/1", FILTERS, 41, "x")
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))
    with pytest.raises(CallError) as refused:
        page_tokens.decode(
            token[:place] + other + token[place + 1 :], "timeline/1", FILTERS, int, str
        )
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


@given(st.text())
def test_what_never_was_a_token_is_refused(text: str) -> None:
    with pytest.raises(CallError) as refused:
        page_tokens.decode(text, "timeline/1", FILTERS, int)
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    ("kind", "filters"), [("timeline/1", b"channels=email"), ("profiles/1", FILTERS)]
)
def test_a_token_of_other_filters_or_another_call_is_refused(kind: str, filters: bytes) -> None:
    token = page_tokens.encode("timeline/1", FILTERS, 41)
    with pytest.raises(CallError) as refused:
        page_tokens.decode(token, kind, filters, int)
    assert refused.value.reason == "INVALID_PAGE_TOKEN"


def test_a_token_with_values_of_other_types_is_refused() -> None:
    token = page_tokens.encode("timeline/1", FILTERS, True)
    with pytest.raises(CallError):
        page_tokens.decode(token, "timeline/1", FILTERS, int)
    token = page_tokens.encode("timeline/1", FILTERS, 41)
    with pytest.raises(CallError):
        page_tokens.decode(token, "timeline/1", FILTERS, int, str)


@pytest.mark.parametrize(("asked", "given_size"), [(0, 50), (1, 1), (500, 500), (501, 500)])
def test_a_page_size_has_a_default_and_a_maximum(asked: int, given_size: int) -> None:
    assert page_tokens.page_size(asked) == given_size


def test_a_negative_page_size_is_a_violation() -> None:
    with pytest.raises(CallError) as refused:
        page_tokens.page_size(-1)
    assert refused.value.reason == "INVALID_REQUEST"
    assert refused.value.violations[0][0] == "page_size"
