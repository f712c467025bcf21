-- name: tables
SELECT c.relname::text AS name
FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
ORDER BY 1

-- name: columns
SELECT a.attname::text AS name
FROM pg_attribute a
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
ORDER BY a.attnum

-- name: schema
SELECT component, max(number) AS number,
       coalesce(array_agg(number ORDER BY number) FILTER (WHERE name LIKE '%.after'), '{}') AS after
FROM schema_migrations WHERE component <> 'owner' GROUP BY component ORDER BY min(applied_at), component

-- name: head
SELECT store_id, position, chain, recorded_at_us, coalesce(key_check, '') AS key_check,
       coalesce(identity_check, '') AS identity_check
FROM store_head

-- name: ancestors
SELECT store_id, position, chain, restored_at FROM store_ancestors ORDER BY number

-- name: chain_at
SELECT chain FROM events WHERE position = $1

-- name: add_ancestor
INSERT INTO store_ancestors (store_id, position, chain, restored_at) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING

-- name: become_another_store
SELECT become_another_store()

-- name: drop_event_keys_of_nothing
DELETE FROM event_keys k
WHERE NOT EXISTS (SELECT FROM events e WHERE e.tenant = k.tenant AND e.event_id = k.event_id)

-- name: identity_columns
SELECT a.attname::text AS name
FROM pg_attribute a
WHERE a.attrelid = $1::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity <> ''

-- name: indexes
SELECT i.indexrelid::regclass::text AS name, pg_get_indexdef(i.indexrelid) AS definition,
       c.conname::text AS constraint_name, pg_get_constraintdef(c.oid) AS constraint_definition
FROM pg_index i
LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.conrelid = i.indrelid
WHERE i.indrelid = $1::regclass
ORDER BY i.indexrelid

-- name: databases
SELECT datname::text FROM pg_database WHERE datname = ANY($1)

-- name: users_of_databases
SELECT datname::text AS database, coalesce(nullif(application_name, ''), usename::text) AS name
FROM pg_stat_activity
WHERE datname = ANY($1) AND backend_type = 'client backend' AND pid <> pg_backend_pid()
GROUP BY 1, 2 ORDER BY 1, 2
