-- name: add_values
INSERT INTO attribute_values
    (tenant, value_key, name_key, owner_key, occurred_at_us, event_id, position)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::bytea[], $5::bigint[],
                     $6::uuid[], $7::bigint[])

-- name: erase_values
DELETE FROM attribute_values
WHERE tenant = $1 AND owner_key = ANY($2) AND occurred_at_us >= $3 AND occurred_at_us < $4
    AND position < $5

-- name: next_observations
SELECT v.owner_key, v.occurred_at_us, v.event_id, EXISTS (
    SELECT FROM timeline_retractions r
    WHERE r.tenant = v.tenant AND r.owner_key = v.owner_key AND r.event_id = v.event_id
) AS retracted
FROM attribute_values v
WHERE v.tenant = $1 AND v.value_key = $2 AND (v.occurred_at_us, v.event_id) < ($3, $4)
ORDER BY v.occurred_at_us DESC, v.event_id DESC
LIMIT $5

-- name: found_profiles
-- The last observation in each profile stands for it, and only where it is among those looked at.
SELECT f.root_key, f.occurred_at_us, f.event_id, t.position, t.recorded_at_us, t.record,
       f.event_id = n.event_id AS current
FROM (
    SELECT p.root_key, l.*
    FROM (
        SELECT DISTINCT i.root_key FROM identities i
        WHERE i.tenant = $1 AND i.identity_key = ANY($2)
    ) p
    CROSS JOIN LATERAL (
        SELECT w.*
        FROM identities k
        CROSS JOIN LATERAL (
            SELECT v.owner_key, v.occurred_at_us, v.event_id FROM attribute_values v
            WHERE v.tenant = k.tenant AND v.value_key = $3 AND v.owner_key = k.identity_key
                AND NOT EXISTS (
                    SELECT FROM timeline_retractions r
                    WHERE r.tenant = v.tenant AND r.owner_key = v.owner_key
                        AND r.event_id = v.event_id)
            ORDER BY v.occurred_at_us DESC, v.event_id DESC
            LIMIT 1
        ) w
        WHERE k.tenant = $1 AND k.root_key = p.root_key
        ORDER BY w.occurred_at_us DESC, w.event_id DESC
        LIMIT 1
    ) l
    WHERE (l.occurred_at_us, l.event_id) < ($5, $6) AND (l.occurred_at_us, l.event_id) >= ($7, $8)
    ORDER BY l.occurred_at_us DESC, l.event_id DESC
    LIMIT $9
) f
CROSS JOIN LATERAL (
    SELECT w.event_id
    FROM identities k
    CROSS JOIN LATERAL (
        SELECT v.occurred_at_us, v.event_id FROM attribute_values v
        WHERE v.tenant = k.tenant AND v.owner_key = k.identity_key AND v.name_key = $4
            AND NOT EXISTS (
                SELECT FROM timeline_retractions r
                WHERE r.tenant = v.tenant AND r.owner_key = v.owner_key
                    AND r.event_id = v.event_id)
        ORDER BY v.occurred_at_us DESC, v.event_id DESC
        LIMIT 1
    ) w
    WHERE k.tenant = $1 AND k.root_key = f.root_key
    ORDER BY w.occurred_at_us DESC, w.event_id DESC
    LIMIT 1
) n
LEFT JOIN timeline t ON t.tenant = $1 AND t.owner_key = f.owner_key
    AND t.occurred_at_us = f.occurred_at_us AND t.event_id = f.event_id
ORDER BY f.occurred_at_us DESC, f.event_id DESC

-- name: events_of_name
SELECT t.position, t.recorded_at_us, t.record
FROM (
    SELECT w.*
    FROM unnest($2::bytea[]) AS k(owner_key)
    CROSS JOIN LATERAL (
        SELECT v.owner_key, v.occurred_at_us, v.event_id FROM attribute_values v
        WHERE v.tenant = $1 AND v.owner_key = k.owner_key AND v.name_key = $3
            AND (v.occurred_at_us, v.event_id) < ($4, $5)
            AND NOT EXISTS (
                SELECT FROM timeline_retractions r
                WHERE r.tenant = v.tenant AND r.owner_key = v.owner_key
                    AND r.event_id = v.event_id)
        ORDER BY v.occurred_at_us DESC, v.event_id DESC
        LIMIT $6
    ) w
    ORDER BY w.occurred_at_us DESC, w.event_id DESC
    LIMIT $6
) o
JOIN timeline t ON t.tenant = $1 AND t.owner_key = o.owner_key
    AND t.occurred_at_us = o.occurred_at_us AND t.event_id = o.event_id
ORDER BY t.occurred_at_us DESC, t.event_id DESC

-- name: last_events_of_names
SELECT n.name_key, l.event_id
FROM unnest($3::bytea[]) AS n(name_key)
CROSS JOIN LATERAL (
    SELECT w.event_id
    FROM unnest($2::bytea[]) AS k(owner_key)
    CROSS JOIN LATERAL (
        SELECT v.occurred_at_us, v.event_id FROM attribute_values v
        WHERE v.tenant = $1 AND v.owner_key = k.owner_key AND v.name_key = n.name_key
            AND NOT EXISTS (
                SELECT FROM timeline_retractions r
                WHERE r.tenant = v.tenant AND r.owner_key = v.owner_key
                    AND r.event_id = v.event_id)
        ORDER BY v.occurred_at_us DESC, v.event_id DESC
        LIMIT 1
    ) w
    ORDER BY w.occurred_at_us DESC, w.event_id DESC
    LIMIT 1
) l
