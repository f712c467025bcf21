-- name: introduce
INSERT INTO projection_checkpoints (projection, fold_version) VALUES ($1, $2)
ON CONFLICT DO NOTHING

-- name: claim
WITH claimed AS (
    UPDATE projection_checkpoints
    SET owner = $2, epoch = epoch + 1, leased_until = clock_timestamp() + $3::interval
    WHERE projection = $1 AND (leased_until < clock_timestamp() OR owner = $2)
    RETURNING epoch, store_id, position, chain, fold_version
)
SELECT f.number, c.epoch, c.store_id, c.position, c.chain, c.fold_version
FROM projection_foldings f LEFT JOIN claimed c ON true

-- name: renew
UPDATE projection_checkpoints SET leased_until = clock_timestamp() + $3::interval
WHERE projection = $1 AND epoch = $2
RETURNING true

-- name: release
UPDATE projection_checkpoints SET leased_until = '-infinity' WHERE projection = $1 AND owner = $2

-- name: advance
UPDATE projection_checkpoints
SET store_id = $5, position = $6, chain = $7, halt_reason = '',
    leased_until = clock_timestamp() + $8::interval
WHERE projection = $1 AND epoch = $2 AND position = $3 AND chain = $4
RETURNING pg_notify('touchline_checkpoint', projection || ' ' || position)

-- name: adopt
UPDATE projection_checkpoints SET store_id = $5
WHERE projection = $1 AND epoch = $2 AND position = $3 AND chain = $4
RETURNING true

-- name: halt
UPDATE projection_checkpoints SET halt_reason = $3 WHERE projection = $1 AND epoch = $2

-- name: resume
UPDATE projection_checkpoints SET halt_reason = ''
WHERE projection = $1 AND epoch = $2 AND halt_reason <> ''

-- name: positions
SELECT projection, position, halt_reason FROM projection_checkpoints

-- name: checkpoints
SELECT projection, epoch, store_id, position, chain, halt_reason FROM projection_checkpoints

-- name: begin_anew
UPDATE projection_foldings SET number = number + 1 WHERE number = $1 RETURNING true

-- name: all_parked
SELECT projection, tenant, owner_key FROM parked_keys

-- name: graph_profile
SELECT i.root_key, i.identity_key
FROM identities i
WHERE i.tenant = $1 AND i.root_key = (
    SELECT s.root_key FROM identities s WHERE s.tenant = $1 AND s.identity_key = $2)
