-- name: keep_rejected
INSERT INTO rejected_events (tenant, content_hash, violations, sealed_event)
SELECT $1, r.content_hash, r.violations, r.sealed_event
FROM unnest($2::bytea[], $3::jsonb[], $4::bytea[]) AS r(content_hash, violations, sealed_event)
ON CONFLICT DO NOTHING

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
