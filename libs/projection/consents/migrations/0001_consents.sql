-- What was said of consents and preferences, under each identity that the event names: what a customer
-- forbids is found by every one of them. Sealed as the store keeps it.
CREATE TABLE consents (
    tenant smallint NOT NULL,
    identity_key bytea NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL,
    occurred_at_us bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    position bigint NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (tenant, identity_key, occurred_at_us, event_id)
);
ALTER TABLE consents ALTER COLUMN record SET STORAGE EXTERNAL;

-- Events that no longer count, whether or not they have arrived.
CREATE TABLE consent_retractions (
    tenant smallint NOT NULL,
    owner_key bytea NOT NULL,
    event_id uuid NOT NULL,
    recorded_at_us bigint NOT NULL,
    PRIMARY KEY (tenant, owner_key, event_id, recorded_at_us)
);
