-- What reactors decided and the store has not got yet: events, frozen and sealed. It can't be folded
-- again, so it is no part of a view. A row goes once its event is on the line; what the store does
-- not take stays, dead, with the reason.
CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reactor text NOT NULL,
    tenant text NOT NULL,
    event_id uuid NOT NULL,
    sealed bytea NOT NULL,
    traceparent text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'dead')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT '-infinity',
    detail text NOT NULL DEFAULT '',
    UNIQUE (tenant, event_id)
);
ALTER TABLE outbox ALTER COLUMN sealed SET STORAGE EXTERNAL;
CREATE INDEX outbox_waiting ON outbox (id) WHERE state = 'waiting';

-- Which process appends them, so that they come onto the line in their order.
CREATE TABLE outbox_sender (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    owner uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO outbox_sender DEFAULT VALUES;
