-- Each is asked in every generation's schema, where there is no table of models: the identity keys
-- are one tenant's alone, since each tenant's are made with a secret of its own.

-- name: contributions
SELECT count(*) AS "left", 0::bigint AS shut
FROM contributions c
WHERE $1::smallint IS NOT NULL AND c.owner_key = ANY($2) AND c.position < $3
    AND c.occurred_at_us >= $4 AND c.occurred_at_us < $5

-- name: day_sums
-- A sum of a day on which nothing counts any more is left over.
SELECT count(*) AS "left", 0::bigint AS shut
FROM day_sums s
WHERE $1::smallint IS NOT NULL AND s.owner_key = ANY($2) AND NOT EXISTS (
    SELECT FROM contributions c
    WHERE c.scoring = s.scoring AND c.owner_key = s.owner_key AND c.rule = s.rule
        AND c.occurred_at_us / 86400000000 = s.day)

-- name: score_retractions
-- Which events were taken back, as envelopes say.
SELECT 0::bigint AS "left", count(*) AS shut
FROM score_retractions r
WHERE $1::smallint IS NOT NULL AND r.owner_key = ANY($2)
