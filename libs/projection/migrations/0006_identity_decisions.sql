-- Who is who is decided by people too, and can be asked as of any day. The identity graph folds anew
-- from the first event: what it adds is not in the tables that it had.
TRUNCATE identities, identity_edges, identity_retractions;
DELETE FROM projection_checkpoints WHERE projection = 'identity_graph';
DELETE FROM parked_keys WHERE projection = 'identity_graph';

ALTER TABLE identity_edges ADD COLUMN recorded_at_us bigint NOT NULL;
DROP INDEX identity_edges_back;
ALTER TABLE identity_retractions
    ADD COLUMN recorded_at_us bigint NOT NULL,
    DROP CONSTRAINT identity_retractions_pkey,
    ADD PRIMARY KEY (event_id, tenant, owner_key, recorded_at_us);

-- Which identities have edges, and the first edge of each pair and strength that counts: what is
-- folded, however many events say the same. Without an event: all of them were taken back.
CREATE TABLE identity_links (
    tenant smallint NOT NULL,
    a_key bytea NOT NULL,
    b_key bytea NOT NULL,
    strength smallint NOT NULL,
    occurred_at_us bigint,
    event_id uuid,
    PRIMARY KEY (tenant, a_key, b_key, strength)
);
CREATE INDEX identity_links_back ON identity_links (tenant, b_key, a_key);

-- What people decided. Merges are also edges, of strength 0, before all others.
CREATE TABLE identity_decisions (
    tenant smallint NOT NULL,
    event_id uuid NOT NULL,
    kind smallint NOT NULL,
    owner_key bytea NOT NULL,
    occurred_at_us bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    position bigint NOT NULL,
    left_keys bytea[] NOT NULL,
    right_keys bytea[] NOT NULL,
    joined_keys bytea[] NOT NULL,
    PRIMARY KEY (tenant, event_id)
);

-- Where each decision is found by the identities that it names: side 0 left, 1 right, 2 joined only.
CREATE TABLE identity_decision_keys (
    tenant smallint NOT NULL,
    identity_key bytea NOT NULL,
    event_id uuid NOT NULL,
    side smallint NOT NULL,
    PRIMARY KEY (tenant, identity_key, event_id, side)
);

-- Decisions that no longer hold, whether or not they have arrived. What a merge revokes holds but for
-- keeping the identities of that merge apart.
CREATE TABLE identity_revocations (
    tenant smallint NOT NULL,
    event_id uuid NOT NULL,
    revoked_by uuid NOT NULL,
    by_merge boolean NOT NULL,
    recorded_at_us bigint NOT NULL,
    PRIMARY KEY (tenant, event_id, revoked_by)
);

-- How often people decided about a profile.
CREATE TABLE profile_versions (
    tenant smallint NOT NULL,
    root_key bytea NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (tenant, root_key)
);

-- Pairs of profiles, by their roots, with the first of the links that would join them if they had no
-- two strong identities of one kind: only a person can say.
CREATE TABLE merge_suggestions (
    tenant smallint NOT NULL,
    left_root bytea NOT NULL,
    right_root bytea NOT NULL,
    strength smallint NOT NULL,
    occurred_at_us bigint NOT NULL,
    a_key bytea NOT NULL,
    b_key bytea NOT NULL,
    event_id uuid NOT NULL,
    PRIMARY KEY (tenant, left_root, right_root),
    CHECK (left_root < right_root)
);
CREATE INDEX merge_suggestions_back ON merge_suggestions (tenant, right_root);
CREATE INDEX merge_suggestions_strongest
    ON merge_suggestions (tenant, strength, occurred_at_us, a_key, b_key);

-- Identities whose data key was deleted, and by which erasure last.
CREATE TABLE identity_erasures (
    tenant smallint NOT NULL,
    identity_key bytea NOT NULL,
    position bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    PRIMARY KEY (tenant, identity_key)
);
