-- Remembers which master key wraps this store's data keys, and answers the one it remembers.
CREATE FUNCTION remember_key_check(p_check bytea) RETURNS bytea LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, public
AS $$
    UPDATE store_head SET key_check = p_check WHERE key_check IS NULL;
    SELECT key_check FROM store_head;
$$;

-- What the store's own process may do: read the line, and append to it through append_events only.
-- It can't even insert past the chain.
DO $$
BEGIN
    CREATE ROLE touchline_store NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- another database of this server, or another process, made it
END $$;
GRANT touchline_store TO CURRENT_USER;
GRANT USAGE ON SCHEMA public TO touchline_store;
GRANT SELECT ON events, store_head TO touchline_store;
GRANT SELECT, INSERT, DELETE ON data_keys TO touchline_store;
GRANT SELECT, UPDATE ON relay_lease TO touchline_store;
REVOKE ALL ON FUNCTION append_events, decide_facts, decide_units, remember_key_check FROM PUBLIC;
GRANT EXECUTE ON FUNCTION append_events, remember_key_check TO touchline_store;
