-- name: workers
SELECT owner, name FROM projection_workers

-- name: pauses
SELECT projection, reason FROM projection_pauses

-- name: indexing
-- Of the index that is being built in a schema: how much is read and sorted.
SELECT greatest(
    CASE WHEN p.blocks_total > 0 THEN p.blocks_done::float8 / p.blocks_total ELSE 0 END,
    CASE WHEN p.tuples_total > 0 THEN p.tuples_done::float8 / p.tuples_total ELSE 0 END) AS share
FROM pg_stat_progress_create_index p
JOIN pg_class c ON c.oid = p.relid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1
