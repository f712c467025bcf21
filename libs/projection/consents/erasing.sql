-- name: consents
SELECT DISTINCT ON (event_id) position, record FROM consents
WHERE tenant = $1 AND identity_key = ANY($2) AND position < $3
    AND occurred_at_us >= $4 AND occurred_at_us < $5
