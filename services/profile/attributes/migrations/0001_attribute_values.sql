-- Where each value of an attribute was observed, by keyed hashes of its name, and of name and value:
-- nothing in here can be read, and a value that no longer holds is still found.
CREATE TABLE attribute_values (
    tenant smallint NOT NULL,
    value_key bytea NOT NULL,
    name_key bytea NOT NULL,
    owner_key bytea NOT NULL,
    occurred_at_us bigint NOT NULL,
    event_id uuid NOT NULL,
    position bigint NOT NULL,
    -- The last observation of a value under an identity is one look at this index.
    PRIMARY KEY (tenant, value_key, owner_key, occurred_at_us, event_id)
);
-- So is the last observation of all.
CREATE INDEX attribute_values_newest
    ON attribute_values (tenant, value_key, occurred_at_us, event_id);
-- And the last observation of an attribute, whatever its value.
CREATE INDEX attribute_values_of_owners
    ON attribute_values (tenant, owner_key, name_key, occurred_at_us, event_id);
