-- Identities whose events a projection could not fold. Their events wait, from that position on, until
-- they are folded again; everything else goes on.
CREATE TABLE parked_keys (
    projection text NOT NULL,
    tenant smallint NOT NULL,
    owner_key bytea NOT NULL,
    position bigint NOT NULL,
    event_id uuid NOT NULL,
    error text NOT NULL,
    parked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    waiting_events bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (projection, tenant, owner_key)
);
