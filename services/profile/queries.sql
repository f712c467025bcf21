-- name: identities_of
SELECT identity_key, kind, first_position, sealed_value, key_id
FROM identities WHERE tenant = $1 AND identity_key = ANY($2)
ORDER BY first_position, identity_key

-- name: profiles
SELECT identity_key FROM identities
WHERE tenant = $1 AND identity_key = root_key AND identity_key > $2
ORDER BY identity_key LIMIT $3

-- name: population
SELECT (SELECT count(*) FROM identities WHERE tenant = $1 AND identity_key = root_key),
       (SELECT count(*) FROM identities WHERE tenant = $1),
       (SELECT count(*) FROM timeline WHERE tenant = $1)

-- name: page
SELECT t.position, t.recorded_at_us, t.type, t.occurred_at_us, t.event_id, t.record
FROM unnest($2::bytea[]) AS k(owner_key)
CROSS JOIN LATERAL (
    SELECT * FROM timeline e
    WHERE e.tenant = $1 AND e.owner_key = k.owner_key
        AND (e.occurred_at_us, e.event_id) < ($3, $4)
        AND e.occurred_at_us >= $5
        AND ($6::smallint[] IS NULL OR e.channel = ANY($6))
        AND ($7::smallint[] IS NULL OR e.type = ANY($7))
        AND e.recorded_at_us <= $8
        AND NOT EXISTS (
            SELECT FROM timeline_retractions r
            WHERE r.tenant = e.tenant AND r.owner_key = e.owner_key AND r.event_id = e.event_id
                AND r.recorded_at_us <= $8)
    ORDER BY e.occurred_at_us DESC, e.event_id DESC
    LIMIT $9
) t
ORDER BY t.occurred_at_us DESC, t.event_id DESC
LIMIT $9

-- name: recorded_between
SELECT e.position, e.recorded_at_us, e.type, e.occurred_at_us, e.event_id, e.record
FROM timeline e
WHERE e.tenant = $1 AND e.owner_key = ANY($2) AND e.position > $3 AND e.position <= $4
    AND NOT EXISTS (
        SELECT FROM timeline_retractions r
        WHERE r.tenant = e.tenant AND r.owner_key = e.owner_key AND r.event_id = e.event_id)
ORDER BY e.position LIMIT $5

-- name: span
SELECT min(s.first_us), max(s.last_us), coalesce(sum(s.events), 0)::bigint
FROM unnest($2::bytea[]) AS k(owner_key)
CROSS JOIN LATERAL (
    SELECT min(e.occurred_at_us) FILTER (WHERE e.type = ANY($3)) AS first_us,
           max(e.occurred_at_us) FILTER (WHERE e.type = ANY($3)) AS last_us,
           count(*) AS events
    FROM timeline e
    WHERE e.tenant = $1 AND e.owner_key = k.owner_key
        AND e.occurred_at_us <= $4 AND e.recorded_at_us <= $4
        AND NOT EXISTS (
            SELECT FROM timeline_retractions r
            WHERE r.tenant = e.tenant AND r.owner_key = e.owner_key AND r.event_id = e.event_id
                AND r.recorded_at_us <= $4)
) s

-- name: oldest_first
SELECT t.position, t.recorded_at_us, t.type, t.occurred_at_us, t.event_id, t.record
FROM unnest($2::bytea[]) AS k(owner_key)
CROSS JOIN LATERAL (
    SELECT * FROM timeline e
    WHERE e.tenant = $1 AND e.owner_key = k.owner_key
        AND (e.occurred_at_us, e.event_id) > ($3, $4) AND e.position <= $5
    ORDER BY e.occurred_at_us, e.event_id
    LIMIT $6
) t
ORDER BY t.occurred_at_us, t.event_id
LIMIT $6
