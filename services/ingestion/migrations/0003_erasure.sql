-- Whom a rejected event names, as far as that can be told, and when it happened, if it says so: to
-- discard it when they are erased. NULL for what was kept before; it is looked at before an erasure.
ALTER TABLE rejected_events
    ADD COLUMN identity_keys bytea[],
    ADD COLUMN occurred_at_us bigint;
CREATE INDEX rejected_events_of_identities ON rejected_events USING gin (identity_keys);
CREATE INDEX rejected_events_unread ON rejected_events (rejected_id) WHERE identity_keys IS NULL;
GRANT UPDATE (identity_keys, occurred_at_us) ON rejected_events TO touchline_store;

-- Discards the rejected events that name whom an erasure concerned, and answers how many there were.
-- Of a time range, those that happened in it, and those that do not say when.
CREATE FUNCTION discard_erased(p_tenant smallint, p_erasure_id uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public
AS $$
DECLARE
    erased bytea[];
    from_us bigint;
    before_us bigint;
    discarded bigint;
BEGIN
    SELECT array_agg(i.identity_key), min(i.occurred_from_us), min(i.occurred_before_us)
        INTO erased, from_us, before_us
        FROM store_erasures e JOIN store_erased_identities i USING (tenant, position)
        WHERE e.tenant = p_tenant AND e.erasure_id = p_erasure_id;
    DELETE FROM rejected_events r
        WHERE r.tenant = p_tenant AND r.identity_keys && erased
          AND (r.occurred_at_us IS NULL
               OR (r.occurred_at_us >= from_us
                   AND (before_us = 0 OR r.occurred_at_us < before_us)));
    GET DIAGNOSTICS discarded = ROW_COUNT;
    UPDATE store_erasures e SET discarded_rejected_events = discarded
        WHERE e.tenant = p_tenant AND e.erasure_id = p_erasure_id;
    RETURN discarded;
END $$;
REVOKE ALL ON FUNCTION discard_erased FROM PUBLIC;
GRANT EXECUTE ON FUNCTION discard_erased TO touchline_store;
