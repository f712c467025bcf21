-- name: add_values
INSERT INTO attribute_values
    (tenant, value_key, owner_key, event_id, occurred_at_us, recorded_at_us, position)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::uuid[], $5::bigint[],
                     $6::bigint[], $7::bigint[])

-- name: erase_values
DELETE FROM attribute_values
WHERE tenant = $1 AND owner_key = ANY($2) AND occurred_at_us >= $3 AND occurred_at_us < $4
    AND position < $5

-- name: find_profiles
SELECT i.root_key, t.position, t.recorded_at_us, t.record, v.occurred_at_us, v.event_id
FROM attribute_values v
JOIN identities i ON i.tenant = v.tenant AND i.identity_key = v.owner_key
JOIN timeline t ON t.tenant = v.tenant AND t.owner_key = v.owner_key
    AND t.occurred_at_us = v.occurred_at_us AND t.event_id = v.event_id
WHERE v.tenant = $1 AND v.value_key = $2 AND (v.occurred_at_us, v.event_id) < ($3, $4)
    AND NOT EXISTS (
        SELECT FROM timeline_retractions r
        WHERE r.tenant = v.tenant AND r.owner_key = v.owner_key AND r.event_id = v.event_id)
    -- The last observation in each profile stands for it.
    AND NOT EXISTS (
        SELECT FROM identities k
        JOIN attribute_values w ON w.tenant = k.tenant AND w.value_key = v.value_key
            AND w.owner_key = k.identity_key
        WHERE k.tenant = i.tenant AND k.root_key = i.root_key
            AND (w.occurred_at_us, w.event_id) > (v.occurred_at_us, v.event_id)
            AND NOT EXISTS (
                SELECT FROM timeline_retractions r
                WHERE r.tenant = w.tenant AND r.owner_key = w.owner_key
                    AND r.event_id = w.event_id))
ORDER BY v.occurred_at_us DESC, v.event_id DESC
LIMIT $5
