-- name: kept
-- What is to be seen to, of the fold versions that this process has: generations to fill that have
-- free ranges, those that follow while nothing of their version answers, and those that are over.
SELECT g.id,
    g.state = 'filling' AND EXISTS (
        SELECT FROM projection_checkpoints c
        WHERE c.generation = g.id AND c.leased_until < clock_timestamp()
    ) AND NOT EXISTS (
        SELECT FROM projection_pauses p WHERE p.projection = g.projection
    ) AS wants_workers,
    g.state = 'following' AND NOT EXISTS (
        SELECT FROM projection_generations s
        WHERE s.projection = g.projection AND s.fold_version = g.fold_version
            AND s.state = 'serving'
    ) AS is_first,
    -- Of one without ranges the tables went half: who dropped it died.
    g.state = 'retired' AND g.retired_at < clock_timestamp() - $1::interval
    OR g.state IN ('filling', 'following', 'retired') AND NOT EXISTS (
        SELECT FROM projection_checkpoints c WHERE c.generation = g.id
    ) AS is_over
FROM projection_generations g

-- name: unread
-- What nobody who lives reads.
SELECT g.id
FROM projection_generations g
WHERE NOT EXISTS (
    SELECT FROM projection_workers w
    WHERE (w.fold_versions ->> g.projection)::integer = g.fold_version
        AND w.seen_at > clock_timestamp() - interval '30 seconds')

-- name: begun_schemas
SELECT schema_name FROM projection_generations

-- name: free
SELECT count(*) FROM projection_checkpoints
WHERE generation = $1 AND leased_until < clock_timestamp()
