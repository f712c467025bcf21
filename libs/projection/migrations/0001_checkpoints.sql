-- How far each projection came. It moves in the transaction that writes the projection's tables,
-- and only for the owner of the current epoch.
CREATE TABLE projection_checkpoints (
    projection text PRIMARY KEY,
    fold_version integer NOT NULL,
    store_id bytea NOT NULL DEFAULT '',
    position bigint NOT NULL DEFAULT 0,
    chain bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
    epoch bigint NOT NULL DEFAULT 0,
    owner uuid,
    leased_until timestamptz NOT NULL DEFAULT '-infinity',
    halt_reason text NOT NULL DEFAULT ''
);
