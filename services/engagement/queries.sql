-- name: add_models
INSERT INTO models (tenant, name, version, position, definition, published_at_us, published_by)
SELECT * FROM unnest($1::smallint[], $2::text[], $3::integer[], $4::bigint[], $5::text[],
                     $6::bigint[], $7::text[])

-- name: models
SELECT m.tenant, m.name, m.version, m.position, m.definition, m.published_at_us, m.published_by,
       s.scoring AS serving,
       m.version = max(m.version) OVER (PARTITION BY m.tenant, m.name) AS newest,
       m.position = s.previous AND s.since > clock_timestamp() - $1::interval AS retiring
FROM models m LEFT JOIN serving_models s ON s.tenant = m.tenant AND s.name = m.name
ORDER BY m.tenant, m.name, m.version DESC

-- name: all
SELECT tenant, name, version, position, definition FROM models

-- name: models_of
SELECT m.name, m.version, m.position, m.definition, m.published_at_us, m.published_by,
       s.scoring AS serving
FROM models m LEFT JOIN serving_models s ON s.tenant = m.tenant AND s.name = m.name
WHERE m.tenant = $1 AND ($2 = '' OR m.name = $2)
ORDER BY m.name, m.version DESC

-- name: position_of
SELECT position FROM models WHERE tenant = $1 AND name = $2 AND version = $3

-- name: serving
SELECT m.version, m.position, m.definition
FROM serving_models s JOIN models m ON m.position = s.scoring
WHERE s.tenant = $1 AND s.name = $2

-- name: serve
INSERT INTO serving_models (tenant, name, scoring) VALUES ($1, $2, $3)
ON CONFLICT (tenant, name) DO UPDATE
    SET previous = serving_models.scoring, scoring = excluded.scoring, since = clock_timestamp()
    WHERE serving_models.scoring < excluded.scoring

-- name: left_over
-- Of projections that nobody folds any more: no process holds a range of any of their generations.
-- Who fills one does not count: it is given up.
SELECT DISTINCT g.projection FROM projection_generations g
WHERE g.projection = ANY($1) AND NOT EXISTS (
    SELECT FROM projection_generations o JOIN projection_checkpoints c ON c.generation = o.id
    WHERE o.projection = g.projection AND o.state <> 'filling'
        AND c.leased_until > clock_timestamp())

-- name: add_contributions
INSERT INTO contributions
    (scoring, owner_key, event_id, rule, type, occurred_at_us, recorded_at_us, position)
SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::uuid[], $4::smallint[], $5::smallint[],
                     $6::bigint[], $7::bigint[], $8::bigint[])

-- name: add_retractions
INSERT INTO score_retractions (scoring, owner_key, event_id, recorded_at_us, position)
SELECT $1, * FROM unnest($2::bytea[], $3::uuid[], $4::bigint[], $5::bigint[])
ON CONFLICT DO NOTHING
RETURNING owner_key, event_id

-- name: add_erasures
INSERT INTO score_erasures (scoring, owner_key, position, occurred_from_us, occurred_before_us)
SELECT $1, k.owner_key, $5, $3, $4 FROM unnest($2::bytea[]) AS k(owner_key)
ON CONFLICT DO NOTHING

-- name: erase
WITH erased AS (
    DELETE FROM contributions
    WHERE scoring = $1 AND owner_key = ANY($2) AND occurred_at_us >= $3 AND occurred_at_us < $4
        AND position < $5
    RETURNING owner_key, rule, occurred_at_us, event_id
)
SELECT e.owner_key, e.rule, e.occurred_at_us FROM erased e
WHERE NOT EXISTS (
    SELECT FROM score_retractions r
    WHERE r.scoring = $1 AND r.owner_key = e.owner_key AND r.event_id = e.event_id)

-- name: erasures_of
SELECT owner_key, position, occurred_from_us, occurred_before_us FROM score_erasures
WHERE scoring = $1 AND owner_key = ANY($2) AND position > $3

-- name: contributions_of_events
SELECT c.owner_key, c.rule, c.occurred_at_us
FROM unnest($2::bytea[], $3::uuid[]) AS r(owner_key, event_id)
JOIN contributions c
    ON c.scoring = $1 AND c.owner_key = r.owner_key AND c.event_id = r.event_id

-- name: has_retractions
SELECT EXISTS (SELECT FROM score_retractions WHERE scoring = $1)

-- name: retracted_among
SELECT r.owner_key, r.event_id
FROM unnest($2::bytea[], $3::uuid[]) AS e(owner_key, event_id)
JOIN score_retractions r
    ON r.scoring = $1 AND r.owner_key = e.owner_key AND r.event_id = e.event_id

-- name: add_day_sums
INSERT INTO day_sums (scoring, owner_key, rule, day, weight)
SELECT $1, * FROM unnest($2::bytea[], $3::smallint[], $4::integer[], $5::bigint[])
ON CONFLICT (scoring, owner_key, rule, day) DO UPDATE
    SET weight = day_sums.weight + excluded.weight

-- name: remove_empty_day_sums
DELETE FROM day_sums s USING unnest($2::bytea[], $3::smallint[], $4::integer[])
    AS e(owner_key, rule, day)
WHERE s.scoring = $1 AND s.owner_key = e.owner_key AND s.rule = e.rule AND s.day = e.day
    AND s.weight = 0

-- name: sums_now
SELECT rule, day, sum(weight)::bigint AS weight FROM {schema}.day_sums
WHERE scoring = $1 AND owner_key = ANY($2)
GROUP BY rule, day

-- name: sums_then
SELECT c.rule, (c.occurred_at_us / 86400000000)::integer AS day, count(*) AS events
FROM {schema}.contributions c
WHERE c.scoring = $1 AND c.owner_key = ANY($2)
    AND c.occurred_at_us <= $3 AND c.recorded_at_us <= $4 AND c.position <= $5
    AND NOT EXISTS (
        SELECT FROM {schema}.score_retractions r
        WHERE r.scoring = c.scoring AND r.owner_key = c.owner_key AND r.event_id = c.event_id
            AND r.recorded_at_us <= $4 AND r.position <= $5)
GROUP BY 1, 2

-- name: explained
SELECT c.event_id, c.position, c.occurred_at_us, c.type, c.rule, g.day
FROM unnest($6::smallint[], $7::integer[], $8::integer[]) AS g(rule, day, place)
JOIN {schema}.contributions c
    ON c.scoring = $1 AND c.owner_key = ANY($2) AND c.rule = g.rule
        AND c.occurred_at_us / 86400000000 = g.day
WHERE c.occurred_at_us <= $3 AND c.recorded_at_us <= $4 AND c.position <= $5
    AND NOT EXISTS (
        SELECT FROM {schema}.score_retractions r
        WHERE r.scoring = c.scoring AND r.owner_key = c.owner_key AND r.event_id = c.event_id
            AND r.recorded_at_us <= $4 AND r.position <= $5)
ORDER BY g.place, c.occurred_at_us DESC, c.event_id DESC, c.rule
OFFSET $9 LIMIT $10

-- name: days_now
SELECT i.root_key, s.rule, s.day, sum(s.weight)::bigint AS weight
FROM {schema}.day_sums s JOIN identities i ON i.tenant = $2 AND i.identity_key = s.owner_key
WHERE s.scoring = $1
GROUP BY i.root_key, s.rule, s.day

-- name: days_then
SELECT i.root_key, c.rule, (c.occurred_at_us / 86400000000)::integer AS day,
       sum(($15::bigint[])[c.rule + 1])::bigint AS weight
FROM {schema}.contributions c JOIN identities i ON i.tenant = $2 AND i.identity_key = c.owner_key
WHERE c.scoring = $1 AND c.occurred_at_us <= $14 AND c.recorded_at_us <= $14
    AND NOT EXISTS (
        SELECT FROM {schema}.score_retractions r
        WHERE r.scoring = c.scoring AND r.owner_key = c.owner_key AND r.event_id = c.event_id
            AND r.recorded_at_us <= $14)
GROUP BY i.root_key, c.rule, 3

-- name: ranked
rules AS (
    SELECT * FROM unnest($3::smallint[], $4::bigint[], $5::bigint[], $6::integer[], $7::integer[])
        AS r(rule, day_cap, total_cap, first_factor, ages)
), aged AS (
    SELECT d.root_key, r.*,
           least(greatest(d.weight, -r.day_cap), r.day_cap) AS capped,
           greatest(0, $8::integer - d.day) AS age
    FROM days d JOIN rules r ON r.rule = d.rule
), by_rule AS (
    SELECT root_key, total_cap::numeric * 1152921504606846976 AS cap, sum(capped::numeric * CASE
        WHEN ages IS NULL THEN 1152921504606846976
        WHEN age < ages THEN ($9::bigint[])[first_factor + age]
        ELSE 0 END) AS units
    FROM aged GROUP BY root_key, rule, total_cap
), ranks AS (
    SELECT root_key, $10::smallint * sum(least(greatest(units, -cap), cap)) AS rank
    FROM by_rule GROUP BY root_key
)
SELECT root_key, rank FROM ranks
WHERE $11::numeric IS NULL OR rank < $11 OR (rank = $11 AND root_key > $12)
ORDER BY rank DESC, root_key LIMIT $13

-- name: profiles_of
SELECT identity_key, root_key FROM identities
WHERE tenant = $1 AND identity_key = ANY($2) AND root_key = ANY($3)
