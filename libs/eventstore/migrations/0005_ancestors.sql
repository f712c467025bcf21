-- The stores that this one was restored from, and where each backup ended. Up to there their events
-- are this store's; whoever folded one of them further folds anew.
CREATE TABLE store_ancestors (
    number integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    store_id uuid NOT NULL UNIQUE,
    position bigint NOT NULL,
    chain bytea NOT NULL,
    restored_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT ON store_ancestors TO touchline_store;

-- Makes a restored copy a store of its own, and answers its new id. Call it once after each restore,
-- before anything is appended: two stores of one id would contradict each other unnoticed.
CREATE FUNCTION become_another_store() RETURNS uuid LANGUAGE sql
    SET search_path = pg_catalog, public
AS $$
    INSERT INTO store_ancestors (store_id, position, chain)
        SELECT store_id, position, chain FROM store_head;
    UPDATE store_head SET store_id = gen_random_uuid() RETURNING store_id;
$$;
REVOKE ALL ON FUNCTION become_another_store FROM PUBLIC;
