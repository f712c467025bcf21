-- What no longer counts since it was erased: each identity's events before a position, and of a time.
-- Events that are folded late, after their owner was parked, come after their erasure.
CREATE TABLE score_erasures (
    scoring bigint NOT NULL,
    owner_key bytea NOT NULL,
    position bigint NOT NULL,
    occurred_from_us bigint NOT NULL,
    occurred_before_us bigint NOT NULL,
    PRIMARY KEY (scoring, owner_key, position)
);
