-- Erasure: keys are deleted and that they were is appended to the line, in one call.

-- How many erasures there were. What was sealed before the latest one may be sealed under a key that
-- is gone, so appends say how many their seals know of.
ALTER TABLE store_head ADD COLUMN erasures bigint NOT NULL DEFAULT 0;

-- The keys of single events, kept when an erasure of a time range replaced the secret from which they
-- derived. They may be here before that: until then they derive as well.
CREATE TABLE event_keys (
    tenant smallint NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL CHECK (length(owner_key) = 16),
    occurred_at_us bigint NOT NULL,
    wrapped_key bytea NOT NULL,
    PRIMARY KEY (tenant, event_id)
);
CREATE INDEX event_keys_of_owners ON event_keys (tenant, owner_key, occurred_at_us);

-- What was answered to each erasure; asked again it gets the same answer.
CREATE TABLE store_erasures (
    tenant smallint NOT NULL,
    erasure_id uuid NOT NULL,
    position bigint NOT NULL UNIQUE,
    recorded_at_us bigint NOT NULL,
    deleted_keys bigint NOT NULL,
    erased_events bigint NOT NULL,
    kept_events bigint NOT NULL,
    discarded_rejected_events bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, erasure_id)
);

-- Whom each erasure concerned, by its position, and of which time; 0 and 0: all that was theirs. The
-- key_id is the fingerprint of what was deleted: the data key, or the event secret; NULL if there was
-- none.
CREATE TABLE store_erased_identities (
    tenant smallint NOT NULL,
    identity_key bytea NOT NULL CHECK (length(identity_key) = 16),
    position bigint NOT NULL,
    occurred_from_us bigint NOT NULL,
    occurred_before_us bigint NOT NULL,
    key_id bytea,
    PRIMARY KEY (tenant, identity_key, position)
);

GRANT SELECT ON event_keys, store_erasures, store_erased_identities TO touchline_store;
-- Keys are deleted by erase_identities, which records it.
REVOKE DELETE ON data_keys FROM touchline_store;

-- Appends as before, unless somebody was erased since the rows were sealed: p_erasures is how many
-- erasures their seals know of. If there were others, nothing is appended and outcomes is NULL.
-- A process of an older release says 0.
DROP FUNCTION append_events;
CREATE FUNCTION append_events(
    p_units integer[],
    p_tenants smallint[],
    p_event_ids uuid[],
    p_owner_keys bytea[],
    p_partitions smallint[],
    p_types smallint[],
    p_content_hashes bytea[],
    p_records bytea[],
    p_stream_ids uuid[],
    p_stream_versions bigint[],
    p_erasures bigint DEFAULT 0,
    OUT outcomes smallint[],
    OUT positions bigint[],
    OUT recorded_at_us bigint,
    OUT previous_position bigint,
    OUT previous_chain bytea,
    OUT new_chain bytea
) LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
AS $$
DECLARE
    erasures_now bigint;
    new_position bigint;
    chains bytea[];
BEGIN
    SELECT h.position, h.chain, h.erasures,
           greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, h.recorded_at_us)
        INTO previous_position, previous_chain, erasures_now, recorded_at_us
        FROM store_head h FOR UPDATE;
    IF erasures_now <> p_erasures THEN
        RETURN;
    END IF;
    IF p_units IS NULL THEN
        SELECT d.outcomes, d.positions INTO outcomes, positions
            FROM decide_facts(p_tenants, p_event_ids, p_content_hashes) d;
    ELSE
        SELECT d.outcomes, d.positions INTO outcomes, positions
            FROM decide_units(p_units, p_tenants, p_event_ids, p_content_hashes,
                              p_stream_ids, p_stream_versions, previous_position) d;
    END IF;

    new_position := previous_position;
    new_chain := previous_chain;
    chains := array_fill(NULL::bytea, ARRAY[cardinality(outcomes)]);
    FOR i IN 1 .. cardinality(outcomes) LOOP
        IF outcomes[i] = 1 THEN
            new_position := new_position + 1;
            positions[i] := new_position;
            new_chain := sha256(new_chain || p_content_hashes[i]);
            chains[i] := new_chain;
        END IF;
    END LOOP;
    IF new_position = previous_position THEN
        RETURN;
    END IF;

    INSERT INTO events (position, tenant, event_id, owner_key, partition, type, recorded_at_us,
                        content_hash, chain, stream_id, stream_version, record)
        SELECT i.position, i.tenant, i.event_id, i.owner_key, i.partition, i.type,
               append_events.recorded_at_us, i.content_hash, i.chain,
               i.stream_id, i.stream_version, i.record
        FROM unnest(positions, p_tenants, p_event_ids, p_owner_keys, p_partitions, p_types,
                    p_content_hashes, chains, p_stream_ids, p_stream_versions, p_records)
             AS i(position, tenant, event_id, owner_key, partition, type,
                  content_hash, chain, stream_id, stream_version, record)
        WHERE i.chain IS NOT NULL;
    UPDATE store_head h SET position = new_position, chain = new_chain,
                            recorded_at_us = append_events.recorded_at_us;
    PERFORM pg_notify('touchline_appended', new_position::text);
END $$;
REVOKE ALL ON FUNCTION append_events FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_events TO touchline_store;

-- Keeps the keys of single events before an erasure of a time range, unless there were other erasures
-- than p_erasures: then it does nothing and answers false. The lock holds off the erasures, not the
-- appends; without it a key might be kept just after an erasure that was to delete it.
CREATE FUNCTION keep_event_keys(
    p_tenant smallint,
    p_erasures bigint,
    p_event_ids uuid[],
    p_owner_keys bytea[],
    p_occurred_at_us bigint[],
    p_wrapped_keys bytea[]
) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(7410003);
    IF (SELECT h.erasures FROM store_head h) <> p_erasures THEN
        RETURN false;
    END IF;
    INSERT INTO event_keys (tenant, event_id, owner_key, occurred_at_us, wrapped_key)
        SELECT p_tenant, k.*
        FROM unnest(p_event_ids, p_owner_keys, p_occurred_at_us, p_wrapped_keys) k
        ON CONFLICT DO NOTHING;
    RETURN true;
END $$;
REVOKE ALL ON FUNCTION keep_event_keys FROM PUBLIC;
GRANT EXECUTE ON FUNCTION keep_event_keys TO touchline_store;

-- Deletes keys, or replaces the secrets from which the keys of events derive, and appends that it did
-- so (ProfileErased), under the lock on the head and without a client round trip.
--
-- p_from_us and p_before_us are both 0 to erase identities whole. For a time range, p_wrapped_keys has
-- the identities' data keys with other event secrets, parallel to p_identity_keys and NULL for one
-- that had none; the keys of the events that stay open are in event_keys already. All of that was
-- prepared when there were p_erasures erasures and data keys with the fingerprints p_key_ids (NULL for
-- an identity that had none), from the identities' events up to position p_read_up_to, of which
-- p_erased_events are concerned and p_kept_events stay.
--
-- Outcomes: 1 erased; 2 done before, see store_erasures; 3 there were other erasures in the meantime,
-- or a key was made; 4 an event of the identities came in the meantime; 5 none of the identities has a
-- key, and earlier erasures say why; 6 another event has the event's id. Nothing was changed but with 1.
CREATE FUNCTION erase_identities(
    p_tenant smallint,
    p_erasure_id uuid,
    p_identity_keys bytea[],
    p_from_us bigint,
    p_before_us bigint,
    p_wrapped_keys bytea[],
    p_key_ids bytea[],
    p_erasures bigint,
    p_read_up_to bigint,
    p_erased_events bigint,
    p_kept_events bigint,
    p_event_id uuid,
    p_owner_key bytea,
    p_partition smallint,
    p_type smallint,
    p_content_hash bytea,
    p_record bytea,
    OUT outcome smallint
) LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
    -- Plans are kept across calls; none may ever read the whole line.
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    whole boolean := p_from_us = 0 AND p_before_us = 0;
    erasures_now bigint;
    keys_now bigint;
    deleted bigint := 0;
    came bigint;
    appended record;
BEGIN
    PERFORM pg_advisory_xact_lock(7410003);
    SELECT h.erasures INTO erasures_now FROM store_head h FOR UPDATE;
    IF EXISTS (SELECT FROM store_erasures e
               WHERE e.tenant = p_tenant AND e.erasure_id = p_erasure_id) THEN
        outcome := 2;
        RETURN;
    END IF;
    IF erasures_now <> p_erasures THEN
        outcome := 3;
        RETURN;
    END IF;
    SELECT count(*) INTO keys_now FROM data_keys d
        WHERE d.tenant = p_tenant AND d.identity_key = ANY (p_identity_keys);
    -- Without keys it is an erasure only if it explains why events do not open, as on a restored store
    -- whose keys are newer: then some are not explained by an earlier one.
    IF keys_now = 0 AND NOT EXISTS (
        SELECT FROM unnest(p_identity_keys) AS k(identity_key)
        WHERE EXISTS (
            SELECT FROM events e
            WHERE e.tenant = p_tenant AND e.owner_key = k.identity_key AND e.position > coalesce((
                SELECT max(i.position) FROM store_erased_identities i
                WHERE i.tenant = p_tenant AND i.identity_key = k.identity_key
                  AND i.occurred_from_us = 0 AND i.occurred_before_us = 0), 0)
        )
    ) THEN
        outcome := 5;
        RETURN;
    END IF;
    IF keys_now <> cardinality(array_remove(p_key_ids, NULL)) THEN
        outcome := 3;
        RETURN;
    END IF;
    SELECT count(*) INTO came FROM events e
        WHERE e.tenant = p_tenant AND e.owner_key = ANY (p_identity_keys)
          AND e.position > p_read_up_to;
    IF came > 0 AND NOT whole THEN
        outcome := 4;
        RETURN;
    END IF;
    SELECT a.outcomes, a.positions, a.recorded_at_us INTO appended
        FROM append_events(NULL, ARRAY[p_tenant], ARRAY[p_event_id], ARRAY[p_owner_key],
                           ARRAY[p_partition], ARRAY[p_type], ARRAY[p_content_hash],
                           ARRAY[p_record], NULL, NULL, p_erasures) a;
    IF appended.outcomes[1] <> 1 THEN
        outcome := 6;
        RETURN;
    END IF;

    IF whole THEN
        DELETE FROM data_keys d
            WHERE d.tenant = p_tenant AND d.identity_key = ANY (p_identity_keys);
        GET DIAGNOSTICS deleted = ROW_COUNT;
        DELETE FROM event_keys k
            WHERE k.tenant = p_tenant AND k.owner_key = ANY (p_identity_keys);
    ELSE
        UPDATE data_keys d SET wrapped_key = n.wrapped_key
            FROM unnest(p_identity_keys, p_wrapped_keys) AS n(identity_key, wrapped_key)
            WHERE d.tenant = p_tenant AND d.identity_key = n.identity_key
              AND n.wrapped_key IS NOT NULL;
        DELETE FROM event_keys k
            WHERE k.tenant = p_tenant AND k.owner_key = ANY (p_identity_keys)
              AND k.occurred_at_us >= p_from_us
              AND (p_before_us = 0 OR k.occurred_at_us < p_before_us);
    END IF;
    outcome := 1;
    INSERT INTO store_erased_identities
        SELECT p_tenant, k.identity_key, appended.positions[1], p_from_us, p_before_us, k.key_id
        FROM unnest(p_identity_keys, p_key_ids) AS k(identity_key, key_id);
    INSERT INTO store_erasures (tenant, erasure_id, position, recorded_at_us,
                                deleted_keys, erased_events, kept_events)
        VALUES (p_tenant, p_erasure_id, appended.positions[1], appended.recorded_at_us,
                deleted, p_erased_events + came, p_kept_events);
    UPDATE store_head h SET erasures = h.erasures + 1;
    PERFORM pg_notify('touchline_erased', erasures_now::text);
END $$;
REVOKE ALL ON FUNCTION erase_identities FROM PUBLIC;
GRANT EXECUTE ON FUNCTION erase_identities TO touchline_store;
