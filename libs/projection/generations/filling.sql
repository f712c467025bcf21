-- name: paused
SELECT reason FROM projection_pauses WHERE projection = $1

-- name: pages
SELECT coalesce(pg_relation_size(to_regclass($1)), 0) / current_setting('block_size')::bigint

-- name: flush
-- Whatever was committed so far is on disk afterwards.
SELECT pg_logical_emit_message(false, 'touchline', '', true)

-- name: end_zombies
-- Sessions of workers that write a generation's tables: those of processes that froze, and whose
-- ranges are others' now. No time limit ends a COPY that waits for its client.
SELECT count(pg_terminate_backend(a.pid))
FROM pg_stat_activity a
WHERE a.application_name = $2 AND a.pid <> pg_backend_pid() AND EXISTS (
    SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
    WHERE l.pid = a.pid AND c.relnamespace = to_regnamespace($1))
