-- Identities, and the profile each belongs to: the key of the profile's first identity.
CREATE TABLE identities (
    tenant smallint NOT NULL,
    identity_key bytea NOT NULL,
    kind smallint NOT NULL,
    namespace_key bytea NOT NULL,
    first_position bigint NOT NULL,
    root_key bytea NOT NULL,
    sealed_value bytea NOT NULL,
    key_id bytea NOT NULL,
    PRIMARY KEY (tenant, identity_key)
);
ALTER TABLE identities ALTER COLUMN sealed_value SET STORAGE EXTERNAL;
CREATE INDEX identities_of_profiles ON identities (tenant, root_key);

-- Two identities seen together, once per event that says so: a retraction takes back one of them.
CREATE TABLE identity_edges (
    tenant smallint NOT NULL,
    a_key bytea NOT NULL,
    b_key bytea NOT NULL,
    owner_key bytea NOT NULL,
    strength smallint NOT NULL,
    occurred_at_us bigint NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (tenant, a_key, b_key, event_id)
);
CREATE INDEX identity_edges_back ON identity_edges (tenant, b_key, a_key);

-- Events that no longer count, whether or not they have arrived.
CREATE TABLE identity_retractions (
    tenant smallint NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL,
    PRIMARY KEY (event_id, tenant, owner_key)
);
