-- Appends units of events to the line, in one call: no client round trip happens under the lock, so
-- a client that stops can't stop the others.
--
-- The arrays are parallel, one entry per event. Events of one unit are neighbours and share its
-- number; p_units is NULL for facts with ids that differ, each a unit of its own; p_stream_ids and
-- p_stream_versions may be NULL when no event belongs to a stream.
-- Outcomes are those of touchline.store.v1.AppendOutcome.
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
    new_position bigint;
    chains bytea[];
BEGIN
    SELECT h.position, h.chain,
           greatest((extract(epoch FROM clock_timestamp()) * 1000000)::bigint, h.recorded_at_us)
        INTO previous_position, previous_chain, recorded_at_us
        FROM store_head h FOR UPDATE;
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

-- Decides what becomes of facts whose ids differ: only the store can hold them already.
CREATE FUNCTION decide_facts(
    p_tenants smallint[],
    p_event_ids uuid[],
    p_content_hashes bytea[],
    OUT outcomes smallint[],
    OUT positions bigint[]
) LANGUAGE plpgsql
    SET search_path = pg_catalog, public
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    met record;
BEGIN
    outcomes := array_fill(1::smallint, ARRAY[cardinality(p_event_ids)]);
    positions := array_fill(NULL::bigint, ARRAY[cardinality(p_event_ids)]);
    FOR met IN
        SELECT i.ord, e.position, e.content_hash = i.content_hash AS same
        FROM unnest(p_tenants, p_event_ids, p_content_hashes)
             WITH ORDINALITY AS i(tenant, event_id, content_hash, ord)
        JOIN events e ON e.tenant = i.tenant AND e.event_id = i.event_id
    LOOP
        outcomes[met.ord] := CASE WHEN met.same THEN 2 ELSE 3 END;
        positions[met.ord] := met.position;
    END LOOP;
END $$;

-- Decides what becomes of each event, unit after unit, as if every unit were alone in its call. An
-- accepted event has outcome 1 and its position to be; a duplicate has the first one's position.
CREATE FUNCTION decide_units(
    p_units integer[],
    p_tenants smallint[],
    p_event_ids uuid[],
    p_content_hashes bytea[],
    p_stream_ids uuid[],
    p_stream_versions bigint[],
    p_head bigint,
    OUT outcomes smallint[],
    OUT positions bigint[]
) LANGUAGE plpgsql
    SET search_path = pg_catalog, public
    -- Plans are kept across calls; none may ever read the whole line.
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    event_count integer := cardinality(p_event_ids);
    stored_positions bigint[];
    stored_same boolean[];
    id_numbers integer[];        -- equal for equal ids within this call
    version_numbers integer[];   -- equal for equal stream versions within this call
    versions_stored boolean[];
    versions_accepted boolean[]; -- by version number: taken by an entry of this call
    accepted_ids integer[];      -- by id number: the entry of this call that took it
    head bigint := p_head;
    unit_start integer := 1;
    unit_end integer;
    fresh integer;
    first integer;
BEGIN
    outcomes := array_fill(1::smallint, ARRAY[event_count]);
    positions := array_fill(NULL::bigint, ARRAY[event_count]);
    accepted_ids := array_fill(NULL::integer, ARRAY[event_count]);
    SELECT array_agg(e.position ORDER BY i.ord),
           array_agg(e.content_hash = i.content_hash ORDER BY i.ord),
           array_agg(i.id_number ORDER BY i.ord)
        INTO stored_positions, stored_same, id_numbers
        FROM (SELECT u.*, dense_rank() OVER (ORDER BY u.tenant, u.event_id) AS id_number
              FROM unnest(p_tenants, p_event_ids, p_content_hashes)
                   WITH ORDINALITY AS u(tenant, event_id, content_hash, ord)) i
        LEFT JOIN events e ON e.tenant = i.tenant AND e.event_id = i.event_id;
    IF p_stream_ids IS NOT NULL THEN
        SELECT array_agg(i.version_number ORDER BY i.ord),
               array_agg(e.position IS NOT NULL ORDER BY i.ord)
            INTO version_numbers, versions_stored
            FROM (SELECT u.*, dense_rank() OVER (ORDER BY u.tenant, u.stream_id, u.stream_version)
                      AS version_number
                  FROM unnest(p_tenants, p_stream_ids, p_stream_versions)
                       WITH ORDINALITY AS u(tenant, stream_id, stream_version, ord)) i
            LEFT JOIN events e ON e.stream_id IS NOT NULL AND e.tenant = i.tenant
                AND e.stream_id = i.stream_id AND e.stream_version = i.stream_version;
        versions_accepted := array_fill(false, ARRAY[event_count]);
    END IF;

    WHILE unit_start <= event_count LOOP
        unit_end := unit_start;
        WHILE unit_end < event_count AND p_units[unit_end + 1] = p_units[unit_start] LOOP
            unit_end := unit_end + 1;
        END LOOP;

        fresh := 0;
        FOR i IN unit_start .. unit_end LOOP
            first := accepted_ids[id_numbers[i]];
            IF stored_positions[i] IS NOT NULL THEN
                outcomes[i] := CASE WHEN stored_same[i] THEN 2 ELSE 3 END;
                positions[i] := stored_positions[i];
            ELSIF first >= unit_start THEN
                outcomes[i] := 3; -- twice in its own unit: nothing of that unit is there yet
            ELSIF first IS NOT NULL THEN
                outcomes[i] := CASE WHEN p_content_hashes[first] = p_content_hashes[i]
                               THEN 2 ELSE 3 END;
                positions[i] := positions[first];
            ELSIF p_stream_ids IS NOT NULL AND p_stream_ids[i] IS NOT NULL
                  AND (versions_stored[i] OR versions_accepted[version_numbers[i]]) THEN
                outcomes[i] := 5;
            ELSE
                fresh := fresh + 1;
                positions[i] := head + fresh;
                accepted_ids[id_numbers[i]] := i;
                IF p_stream_ids IS NOT NULL AND p_stream_ids[i] IS NOT NULL THEN
                    versions_accepted[version_numbers[i]] := true;
                END IF;
            END IF;
        END LOOP;

        IF fresh = unit_end - unit_start + 1 THEN
            head := head + fresh;
        ELSIF fresh > 0 THEN
            FOR i IN unit_start .. unit_end LOOP
                IF outcomes[i] = 1 THEN
                    outcomes[i] := 6;
                    positions[i] := NULL;
                    accepted_ids[id_numbers[i]] := NULL;
                    IF p_stream_ids IS NOT NULL AND p_stream_ids[i] IS NOT NULL THEN
                        versions_accepted[version_numbers[i]] := false;
                    END IF;
                END IF;
            END LOOP;
        END IF;
        unit_start := unit_end + 1;
    END LOOP;
END $$;
