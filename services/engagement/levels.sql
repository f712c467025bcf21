-- name: serving_models
SELECT m.tenant, m.name, m.version, m.position, m.definition
FROM models m JOIN serving_models s ON s.tenant = m.tenant AND s.scoring = m.position

-- name: profiles_of
SELECT k.owner_key, i.root_key
FROM unnest($2::bytea[]) AS k(owner_key)
JOIN identities i ON i.tenant = $1 AND i.identity_key = k.owner_key

-- name: changes
-- Profile by profile: without statistics a model seems to have a few hundred contributions, and all
-- of them would be read, with all identities, for each batch.
SELECT p.root_key, n.rule, n.day, n.added, n.removed, n.events
FROM unnest($3::bytea[], $4::bigint[]) AS p(root_key, first)
CROSS JOIN LATERAL (
    SELECT c.rule, (c.occurred_at_us / 86400000000)::integer AS day,
           CASE WHEN c.position < p.first THEN 0 ELSE c.position END AS added,
           CASE WHEN r.position <= $5 THEN r.position END AS removed,
           count(*) AS events
    FROM identities i
    JOIN {schema}.contributions c
        ON c.scoring = $1 AND c.owner_key = i.identity_key AND c.position <= $5
    LEFT JOIN {schema}.score_retractions r
        ON r.scoring = c.scoring AND r.owner_key = c.owner_key AND r.event_id = c.event_id
    WHERE i.tenant = $2 AND i.root_key = p.root_key
        AND (r.position IS NULL OR r.position >= greatest(p.first, c.position))
    GROUP BY 1, 2, 3, 4
) n

-- name: begin_sweeps
INSERT INTO level_sweeps (tenant, model, day) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING

-- name: due_sweep
SELECT EXISTS (SELECT FROM level_sweeps WHERE tenant = $1 AND model = $2 AND day < $3)

-- name: end_sweep
UPDATE level_sweeps SET day = $3 WHERE tenant = $1 AND model = $2 AND day < $3

-- name: moved
WITH days AS (
    SELECT i.root_key, s.rule, s.day, sum(s.weight) AS weight
    FROM identities i JOIN {schema}.day_sums s ON s.scoring = $1 AND s.owner_key = i.identity_key
    WHERE i.tenant = $2 AND i.root_key >= $11 AND i.root_key < $12
    GROUP BY i.root_key, s.rule, s.day
), rules AS (
    SELECT * FROM unnest($3::smallint[], $4::bigint[], $5::bigint[], $6::integer[], $7::integer[])
        AS r(rule, day_cap, total_cap, first_factor, ages)
), aged AS (
    SELECT d.root_key, r.*, n.age AS when_,
           least(greatest(d.weight, -r.day_cap), r.day_cap) AS capped,
           greatest(0, $8::integer - n.age - d.day) AS age
    FROM days d JOIN rules r ON r.rule = d.rule CROSS JOIN (VALUES (0), (1)) AS n(age)
), by_rule AS (
    SELECT root_key, when_, total_cap::numeric * 1152921504606846976 AS cap, sum(capped * CASE
        WHEN ages IS NULL THEN 1152921504606846976
        WHEN age < ages THEN ($9::bigint[])[first_factor + age]
        ELSE 0 END) AS units
    FROM aged GROUP BY root_key, rule, total_cap, when_
), by_day AS (
    SELECT root_key, width_bucket(
        sum(least(greatest(units, -cap), cap)), $10::numeric[]) AS bucket
    FROM by_rule GROUP BY root_key, when_
)
SELECT root_key FROM by_day GROUP BY root_key HAVING min(bucket) <> max(bucket) ORDER BY root_key

-- name: sums_before
-- Profile by profile, as in `changes`.
SELECT p.root_key, n.rule, n.day, n.events
FROM unnest($3::bytea[]) AS p(root_key)
CROSS JOIN LATERAL (
    SELECT c.rule, (c.occurred_at_us / 86400000000)::integer AS day, count(*) AS events
    FROM identities i
    JOIN {schema}.contributions c
        ON c.scoring = $1 AND c.owner_key = i.identity_key AND c.recorded_at_us < $4
    WHERE i.tenant = $2 AND i.root_key = p.root_key AND NOT EXISTS (
        SELECT FROM {schema}.score_retractions r
        WHERE r.scoring = c.scoring AND r.owner_key = c.owner_key AND r.event_id = c.event_id
            AND r.recorded_at_us < $4)
    GROUP BY 1, 2
) n

-- name: identities_of
SELECT root_key, identity_key, kind, first_position, sealed_value, key_id
FROM identities WHERE tenant = $1 AND root_key = ANY($2)
