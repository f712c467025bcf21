-- name: attribute_values
SELECT count(*)::bigint AS left, 0::bigint AS shut FROM attribute_values
WHERE tenant = $1 AND owner_key = ANY($2) AND position < $3
    AND occurred_at_us >= $4 AND occurred_at_us < $5
