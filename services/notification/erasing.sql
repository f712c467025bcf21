-- name: notifications
SELECT position, record FROM notifications
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3

-- name: notification_readings
SELECT count(*) AS "left", 0::bigint AS shut FROM notification_readings
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3
    AND read_at_us >= $4 AND read_at_us < $5

-- name: notification_reads
SELECT count(*) AS "left", 0::bigint AS shut
FROM notification_reads r
WHERE r.tenant = $1 AND r.owner_key = ANY($2) AND r.position < $3
    AND r.read_at_us >= $4 AND r.read_at_us < $5

-- name: delivery_attempts
SELECT position, record FROM delivery_attempts
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3

-- name: deliveries
SELECT position, record FROM deliveries
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3

-- name: expectation_tellings
SELECT position, record FROM expectation_tellings
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3
    AND occurred_at_us >= $4 AND occurred_at_us < $5

-- name: expectations
-- One whose content was never told, as far as it is known, is left over.
SELECT count(*) AS "left", 0::bigint AS shut
FROM expectations e
WHERE e.tenant = $1 AND e.owner_key = ANY($2) AND NOT EXISTS (
    SELECT FROM expectation_tellings t
    WHERE t.tenant = e.tenant AND t.expectation_key = e.expectation_key
        AND t.event_id = e.content_event_id)
