-- name: add_tellings
INSERT INTO expectation_tellings
    (tenant, expectation_key, event_id, owner_key, position, occurred_at_us, recorded_at_us, outcome,
     due_at_us, by_deadline, historical, team_key, answers, record)
SELECT t.* FROM unnest($1::smallint[], $2::bytea[], $3::uuid[], $4::bytea[], $5::bigint[],
                       $6::bigint[], $7::bigint[], $8::smallint[], $9::bigint[], $10::boolean[],
                       $11::boolean[], $12::bytea[], $13::uuid[], $14::bytea[])
     AS t(tenant, expectation_key, event_id, owner_key, position, occurred_at_us, recorded_at_us,
          outcome, due_at_us, by_deadline, historical, team_key, answers, record)
WHERE NOT EXISTS (
    SELECT FROM expectation_retractions r
    WHERE (r.tenant, r.event_id, r.owner_key) = (t.tenant, t.event_id, t.owner_key))

-- name: retract
WITH retracted AS (
    SELECT * FROM unnest($1::smallint[], $2::uuid[], $3::bytea[]) AS r(tenant, event_id, owner_key)
), remembered AS (
    INSERT INTO expectation_retractions SELECT * FROM retracted ON CONFLICT DO NOTHING
)
DELETE FROM expectation_tellings t USING retracted r
WHERE (t.tenant, t.event_id, t.owner_key) = (r.tenant, r.event_id, r.owner_key)
RETURNING t.tenant, t.expectation_key

-- name: erase
DELETE FROM expectation_tellings
WHERE tenant = $1 AND owner_key = ANY($2) AND occurred_at_us >= $3 AND occurred_at_us < $4
    AND position < $5
RETURNING expectation_key

-- name: tellings
SELECT t.tenant, t.expectation_key, t.event_id, t.owner_key, t.occurred_at_us, t.recorded_at_us,
       t.outcome, t.due_at_us, t.by_deadline, t.historical, t.team_key, t.answers
FROM unnest($1::smallint[], $2::bytea[]) AS k(tenant, expectation_key)
JOIN expectation_tellings t USING (tenant, expectation_key)

-- name: forget
DELETE FROM expectations e
USING unnest($1::smallint[], $2::bytea[]) AS k(tenant, expectation_key)
WHERE (e.tenant, e.expectation_key) = (k.tenant, k.expectation_key)

-- name: put
INSERT INTO expectations AS e
    (tenant, expectation_key, owner_key, state, due_at_us, since_us, team_key, answers,
     first_event_id, content_event_id, due_event_id, ended_event_id, said_event_id, remark,
     breakable, answerable)
SELECT * FROM unnest($1::smallint[], $2::bytea[], $3::bytea[], $4::smallint[], $5::bigint[],
                     $6::bigint[], $7::bytea[], $8::uuid[], $9::uuid[], $10::uuid[], $11::uuid[],
                     $12::uuid[], $13::uuid[], $14::smallint[], $15::boolean[], $16::boolean[])
ON CONFLICT (tenant, expectation_key) DO UPDATE
SET owner_key = excluded.owner_key, state = excluded.state, due_at_us = excluded.due_at_us,
    since_us = excluded.since_us, team_key = excluded.team_key, answers = excluded.answers,
    first_event_id = excluded.first_event_id, content_event_id = excluded.content_event_id,
    due_event_id = excluded.due_event_id, ended_event_id = excluded.ended_event_id,
    said_event_id = excluded.said_event_id, remark = excluded.remark,
    breakable = excluded.breakable, answerable = excluded.answerable

-- name: put_versions
INSERT INTO promise_versions AS v (tenant, expectation_key, version)
SELECT k.tenant, k.expectation_key, max(k.version)
FROM unnest($1::smallint[], $2::bytea[], $3::integer[]) AS k(tenant, expectation_key, version)
GROUP BY k.tenant, k.expectation_key
ON CONFLICT (tenant, expectation_key) DO UPDATE SET version = greatest(v.version, excluded.version)

-- name: any_awaiting
SELECT EXISTS (SELECT FROM expectations WHERE awaiting)

-- name: folded
SELECT position FROM projection_checkpoints WHERE projection = $1

-- name: awaiting_of
-- OFFSET 0 keeps each look-up one in an index, whatever the planner thinks of tables that are new.
SELECT e.expectation_key, t.position, t.record,
       (SELECT array_agg(m.identity_key) FROM identities m
        WHERE m.tenant = $1 AND m.root_key = r.root_key) AS keys
FROM (
    SELECT DISTINCT i.root_key
    FROM unnest($2::bytea[]) AS k(identity_key)
    CROSS JOIN LATERAL (
        SELECT root_key FROM identities
        WHERE tenant = $1 AND identity_key = k.identity_key OFFSET 0) i
) r
CROSS JOIN LATERAL (
    SELECT identity_key FROM identities WHERE tenant = $1 AND root_key = r.root_key OFFSET 0) o
CROSS JOIN LATERAL (
    SELECT expectation_key, content_event_id FROM expectations
    WHERE tenant = $1 AND owner_key = o.identity_key AND awaiting AND due_at_us >= $3 OFFSET 0) e
CROSS JOIN LATERAL (
    SELECT position, record FROM expectation_tellings
    WHERE tenant = $1 AND expectation_key = e.expectation_key AND event_id = e.content_event_id
    OFFSET 0) t

-- name: awaited
SELECT e.tenant, e.expectation_key, e.due_at_us, e.since_us
FROM unnest($1::smallint[], $2::bytea[]) AS k(tenant, expectation_key)
JOIN expectations e USING (tenant, expectation_key)
WHERE e.awaiting
ORDER BY e.tenant, e.expectation_key

-- name: keep
UPDATE expectations SET kept_due_us = due_at_us WHERE tenant = $1 AND expectation_key = $2

-- name: next_due
SELECT min(due_at_us) FROM expectations WHERE watched

-- name: overdue
SELECT e.tenant, e.expectation_key, e.due_at_us, d.recorded_at_us, c.record
FROM expectations e
JOIN expectation_tellings d ON d.tenant = e.tenant AND d.expectation_key = e.expectation_key
    AND d.event_id = e.due_event_id
JOIN expectation_tellings c ON c.tenant = e.tenant AND c.expectation_key = e.expectation_key
    AND c.event_id = e.content_event_id
WHERE e.watched AND e.due_at_us <= $1
ORDER BY e.due_at_us
LIMIT $2

-- name: break
UPDATE expectations e SET broken_due_us = e.due_at_us
FROM unnest($1::smallint[], $2::bytea[], $3::bigint[]) AS k(tenant, expectation_key, due_at_us)
WHERE (e.tenant, e.expectation_key, e.due_at_us) = (k.tenant, k.expectation_key, k.due_at_us)
    AND e.watched AND EXISTS (
        SELECT FROM projection_checkpoints WHERE projection = $4 AND epoch = $5)
RETURNING e.tenant, e.expectation_key

-- name: count
SELECT count(*) FROM expectations WHERE state = $1

-- name: page
SELECT expectation_key FROM expectations
WHERE tenant = $1 AND state = ANY($2::smallint[]) AND ($3::bytea IS NULL OR team_key = $3)
    AND (due_at_us, expectation_key) > ($4, $5)
ORDER BY due_at_us, expectation_key LIMIT $6

-- name: page_of_customer
SELECT expectation_key FROM expectations
WHERE tenant = $1 AND state = ANY($2::smallint[]) AND ($3::bytea IS NULL OR team_key = $3)
    AND (due_at_us, expectation_key) > ($4, $5) AND owner_key = ANY($7)
ORDER BY due_at_us, expectation_key LIMIT $6

-- name: details
SELECT e.expectation_key, e.state, e.due_at_us, e.remark, v.version, i.root_key,
       f.record AS first, c.record AS content, d.record AS ended, s.record AS said
FROM unnest($2::bytea[]) AS k(expectation_key)
JOIN expectations e ON e.tenant = $1 AND e.expectation_key = k.expectation_key
LEFT JOIN promise_versions v ON v.tenant = $1 AND v.expectation_key = e.expectation_key
LEFT JOIN identities i ON i.tenant = $1 AND i.identity_key = e.owner_key
JOIN expectation_tellings f ON f.tenant = $1 AND f.expectation_key = e.expectation_key
    AND f.event_id = e.first_event_id
JOIN expectation_tellings c ON c.tenant = $1 AND c.expectation_key = e.expectation_key
    AND c.event_id = e.content_event_id
LEFT JOIN expectation_tellings d ON d.tenant = $1 AND d.expectation_key = e.expectation_key
    AND d.event_id = e.ended_event_id
LEFT JOIN expectation_tellings s ON s.tenant = $1 AND s.expectation_key = e.expectation_key
    AND s.event_id = e.said_event_id
ORDER BY e.due_at_us, e.expectation_key

-- name: content
SELECT t.record, v.version
FROM expectations e
JOIN expectation_tellings t ON t.tenant = e.tenant AND t.expectation_key = e.expectation_key
    AND t.event_id = e.content_event_id
LEFT JOIN promise_versions v ON v.tenant = e.tenant AND v.expectation_key = e.expectation_key
WHERE e.tenant = $1 AND e.expectation_key = $2
