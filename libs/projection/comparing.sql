-- name: note_differing
-- Rows that one of the two has more often than the other, by their digests: those are short and of
-- one size, so that grouping them needs little memory. More often in the live table: surplus > 0.
CREATE TEMPORARY TABLE differing ON COMMIT DROP AS
SELECT digest, sum(side) AS surplus
FROM (
    SELECT sha256(convert_to(live::text, 'UTF8')) AS digest, 1 AS side
    FROM {live} AS live WHERE {live_rows}
    UNION ALL
    SELECT sha256(convert_to(copied::text, 'UTF8')), -1
    FROM {copied} AS copied WHERE {copied_rows}
) AS both_sides
GROUP BY digest HAVING sum(side) <> 0

-- name: count_rows
SELECT (SELECT count(*) FROM {live} WHERE {live_rows}) AS live_rows,
       (SELECT count(*) FROM {copied} WHERE {copied_rows}) AS copied_rows,
       (SELECT coalesce(sum(abs(surplus)), 0) FROM differing)::bigint AS differing_rows

-- name: first_differing
SELECT is_live, row_text, row_values
FROM (
    SELECT DISTINCT ON (live::text) true AS is_live, live::text AS row_text,
        to_jsonb(live)::text AS row_values
    FROM {live} AS live
    JOIN differing d ON d.digest = sha256(convert_to(live::text, 'UTF8')) AND d.surplus > 0
    WHERE {live_rows}
    UNION ALL
    SELECT DISTINCT ON (copied::text) false, copied::text, to_jsonb(copied)::text
    FROM {copied} AS copied
    JOIN differing d ON d.digest = sha256(convert_to(copied::text, 'UTF8')) AND d.surplus < 0
    WHERE {copied_rows}
) AS rows_of_one_side
ORDER BY row_text, is_live DESC LIMIT $1

-- name: forget_differing
DROP TABLE differing

-- name: key_columns
SELECT a.attname AS name
FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)
WHERE i.indrelid = to_regclass($1) AND i.indisprimary
