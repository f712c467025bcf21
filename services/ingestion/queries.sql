-- name: keep_rejected
-- Who keeps the same event waits for the end of this: should it never come, because the client froze,
-- the server waits no longer than a second. As the store's append.
WITH kept AS (
    INSERT INTO rejected_events (tenant, content_hash, violations, sealed_event)
    SELECT $1, r.content_hash, r.violations, r.sealed_event
    FROM unnest($2::bytea[], $3::jsonb[], $4::bytea[]) AS r(content_hash, violations, sealed_event)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*), set_config('transaction_timeout', '1s', true) FROM kept

-- name: list_rejected
-- Those that would make the page too large come without their event.
SELECT rejected_id, rejected_at, violations,
       CASE WHEN bytes_so_far <= $4 OR number = 1 THEN sealed_event END AS sealed_event
FROM (
    SELECT *, row_number() OVER newest AS number,
           sum(length(sealed_event)) OVER newest AS bytes_so_far
    FROM rejected_events
    WHERE tenant = $1 AND rejected_id < $2
    WINDOW newest AS (ORDER BY rejected_id DESC)
    ORDER BY rejected_id DESC LIMIT $3
) page
ORDER BY rejected_id DESC

-- name: count_rejected
SELECT count(*) FROM rejected_events WHERE tenant = $1

-- name: newest_registrations
-- One look at an index for each tenant.
SELECT t.tenant, (
    SELECT max(e.stream_version) FROM events e
    WHERE e.tenant = t.tenant AND e.stream_id = t.stream_id
) AS version
FROM unnest($1::smallint[], $2::uuid[]) AS t(tenant, stream_id)

-- name: rejected_to_retry
-- Only those at the front that make at most so many bytes together, but always one.
SELECT rejected_id, sealed_event
FROM (
    SELECT rejected_id, sealed_event, row_number() OVER oldest AS number,
           sum(length(sealed_event)) OVER oldest AS bytes_so_far
    FROM (
        SELECT rejected_id, sealed_event FROM rejected_events
        WHERE tenant = $1 AND rejected_id > $2 AND ($3::bigint[] IS NULL OR rejected_id = ANY($3))
        ORDER BY rejected_id LIMIT $4
    ) page
    WINDOW oldest AS (ORDER BY rejected_id)
) sized
WHERE bytes_so_far <= $5 OR number = 1
ORDER BY rejected_id

-- name: still_rejected
UPDATE rejected_events r SET violations = n.violations
FROM unnest($2::bigint[], $3::jsonb[]) AS n(rejected_id, violations)
WHERE r.tenant = $1 AND r.rejected_id = n.rejected_id AND r.violations <> n.violations

-- name: remove_rejected
WITH gone AS (
    DELETE FROM rejected_events WHERE tenant = $1 AND rejected_id = ANY($2) RETURNING 1
)
SELECT count(*) FROM gone

-- name: is_rejected
SELECT EXISTS (SELECT FROM rejected_events WHERE tenant = $1 AND rejected_id = $2)
