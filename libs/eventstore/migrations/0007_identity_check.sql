-- Remembers which identity secret names this store's identities, as key_check does for the master
-- key, and answers the one it remembers.
ALTER TABLE store_head ADD COLUMN identity_check bytea;
CREATE FUNCTION remember_identity_check(p_check bytea) RETURNS bytea LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, public
AS $$
    UPDATE store_head SET identity_check = p_check WHERE identity_check IS NULL;
    SELECT identity_check FROM store_head;
$$;
REVOKE ALL ON FUNCTION remember_identity_check FROM PUBLIC;
GRANT EXECUTE ON FUNCTION remember_identity_check TO touchline_store;
