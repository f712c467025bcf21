-- name: add_entries
INSERT INTO timeline (tenant, owner_key, occurred_at_us, event_id, position, recorded_at_us, type,
                      channel, direction, record)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bigint[], $4::uuid[], $5::bigint[],
                     $6::bigint[], $7::smallint[], $8::smallint[], $9::smallint[], $10::bytea[])

-- name: add_retractions
INSERT INTO timeline_retractions (tenant, owner_key, event_id, recorded_at_us)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::uuid[], $4::bigint[])
ON CONFLICT DO NOTHING

-- name: touches
SELECT t.position, t.recorded_at_us, t.record
FROM unnest($2::bytea[]) AS k(owner_key)
CROSS JOIN LATERAL (
    SELECT * FROM timeline e
    WHERE e.tenant = $1 AND e.owner_key = k.owner_key
        AND e.occurred_at_us >= $3
        AND e.position <= $4
        AND ($5::smallint[] IS NULL OR e.type = ANY($5))
        AND NOT EXISTS (
            SELECT FROM timeline_retractions r
            WHERE r.tenant = e.tenant AND r.owner_key = e.owner_key AND r.event_id = e.event_id
                AND r.recorded_at_us <= $6)
    ORDER BY e.occurred_at_us DESC, e.event_id DESC
    LIMIT $7
) t
ORDER BY t.occurred_at_us DESC, t.event_id DESC
LIMIT $7
