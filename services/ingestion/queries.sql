-- name: keep_rejected
INSERT INTO rejected_events (tenant, content_hash, violations, sealed_event)
SELECT $1, r.content_hash, r.violations, r.sealed_event
FROM unnest($2::bytea[], $3::jsonb[], $4::bytea[]) AS r(content_hash, violations, sealed_event)
ON CONFLICT DO NOTHING

-- name: list_rejected
SELECT rejected_id, rejected_at, violations, sealed_event
FROM rejected_events
WHERE tenant = $1 AND rejected_id < $2
ORDER BY rejected_id DESC LIMIT $3

-- name: count_rejected
SELECT count(*) FROM rejected_events WHERE tenant = $1
