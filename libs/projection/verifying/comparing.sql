-- name: try_lock
SELECT pg_try_advisory_lock($1)

-- name: copies
SELECT nspname AS name FROM pg_namespace WHERE starts_with(nspname, $1)

-- name: live_state
SELECT c.position, c.chain, g.fold_version, c.halt_reason,
       p.tenant, p.owner_key, p.position AS parked_position
FROM projection_checkpoints c
JOIN projection_generations g ON g.id = c.generation AND g.state = 'serving'
LEFT JOIN parked_keys p ON p.generation = c.generation
WHERE c.projection = $1

-- name: note_differing
-- Rows that one of the two has more often than the other, by their digests: those are short and of
-- one size, so that grouping them needs little memory. More often in the live table: surplus > 0.
CREATE TEMPORARY TABLE differing ON COMMIT DROP AS
SELECT digest, sum(side) AS surplus
FROM (
    SELECT sha256(convert_to(live::text, 'UTF8')) AS digest, 1 AS side
    FROM public.{table} AS live WHERE {rows}
    UNION ALL
    SELECT sha256(convert_to(copied::text, 'UTF8')), -1 FROM {table} AS copied
) AS both_sides
GROUP BY digest HAVING sum(side) <> 0

-- name: count_rows
SELECT (SELECT count(*) FROM public.{table} WHERE {rows}) AS live_rows,
       (SELECT count(*) FROM {table}) AS copied_rows,
       (SELECT coalesce(sum(abs(surplus)), 0) FROM differing)::bigint AS differing_rows

-- name: first_differing
SELECT is_live, left(row_text, $1) AS row_text
FROM (
    SELECT DISTINCT true AS is_live, live::text AS row_text
    FROM public.{table} AS live
    JOIN differing d ON d.digest = sha256(convert_to(live::text, 'UTF8')) AND d.surplus > 0
    WHERE {rows}
    UNION ALL
    SELECT DISTINCT false, copied::text
    FROM {table} AS copied
    JOIN differing d ON d.digest = sha256(convert_to(copied::text, 'UTF8')) AND d.surplus < 0
) AS rows_of_one_side
ORDER BY row_text, is_live DESC LIMIT $2

-- name: forget_differing
DROP TABLE differing
