-- Where each value of an attribute was observed, by a keyed hash of name and value: nothing in here can
-- be read, and a value that no longer holds is still found.
CREATE TABLE attribute_values (
    tenant smallint NOT NULL,
    value_key bytea NOT NULL,
    owner_key bytea NOT NULL,
    event_id uuid NOT NULL,
    occurred_at_us bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, value_key, owner_key, event_id)
);
CREATE INDEX attribute_values_newest
    ON attribute_values (tenant, value_key, occurred_at_us, event_id);
CREATE INDEX attribute_values_of_owners ON attribute_values (tenant, owner_key, occurred_at_us);
