-- name: timeline
SELECT position, record FROM timeline
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3
    AND occurred_at_us >= $4 AND occurred_at_us < $5
