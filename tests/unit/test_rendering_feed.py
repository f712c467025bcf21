"""What `touchline feed` and `touchline status` say of the feed."""

from datetime import timedelta

from libs.cli.rendering.feed import feed_status, restarted
from libs.cli.rendering.status import status_table
from libs.eventstore.feed.summary import FeedSummary
from tests.terminal import NOW, joined, shown
from touchline.ingestion.v1 import ingestion_pb2 as ingestion
from touchline.ingestion.v1 import ingestion_service_pb2 as calls

FORKED = "the stream touchline-feed ends at position 9 of another store than this one"
FEED = FeedSummary(
    batches=412,
    size=18_300_000,
    first=1,
    last=71_850,
    epoch=3,
    servers=1,
    made_at=NOW - timedelta(hours=2),
)
STORE = ingestion.StoreStatus(store_id=b"s" * 16, head_position=71_853, relayed_position=71_850)


def test_a_feed_is_shown_beside_the_store_it_continues() -> None:
    text = joined(shown(feed_status(STORE, FEED, now=NOW), 80))
    assert "first 1 last 71,850 head 71,853 behind 3" in text
    assert "412 batches · 18.3 MB · kept for 7 days · on 1 server · leader no. 3" in text
    assert "✓ nothing is wrong with it" in text


def test_an_empty_feed_is_not_behind() -> None:
    empty = FeedSummary(0, 120, 0, 0, 1, 1, None)
    assert "first none last none head 71,853 0 batches" in joined(
        shown(feed_status(STORE, empty, now=NOW))
    )


def test_a_last_batch_that_can_not_be_read_is_said() -> None:
    spoilt = FeedSummary(2, 120, 1, 0, 1, 1, None)
    text = joined(shown(feed_status(STORE, spoilt, now=NOW)))
    assert "first 1 last not readable head 71,853 2 batches" in text


def test_a_feed_that_stands_still_is_told_with_the_reason_on_both_screens() -> None:
    store = ingestion.StoreStatus(head_position=3, feed_problem=FORKED)
    for screen in (feed_status(store, FEED, now=NOW), status_table(store, {}, now=NOW)):
        assert f"✗ the feed stands still: {FORKED}" in joined(shown(screen))
    assert "nothing is wrong" not in shown(feed_status(store, FEED, now=NOW))


def test_a_stream_that_is_not_there_is_said() -> None:
    assert "there is no stream" in shown(feed_status(STORE, None, now=NOW))


def test_a_restart_says_what_it_did() -> None:
    anew = shown(restarted(calls.RestartFeedResponse(restarted=True, position=71_853)))
    assert "begins anew after position 71,853" in anew
    kept = shown(restarted(calls.RestartFeedResponse(restarted=False, position=71_850)))
    assert "continues this store up to position 71,850; it was left as it is" in joined(kept)
