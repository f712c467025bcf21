-- Somebody asked to fold a parked identity's events again; whoever folds the projection does.
ALTER TABLE parked_keys ADD COLUMN refold boolean NOT NULL DEFAULT false;
CREATE INDEX parked_keys_of_owners ON parked_keys (tenant, owner_key);

-- How often everything folded in this database was thrown away. A process that finds another number
-- than at its start ends: what it decided and sent was by what is no more.
CREATE TABLE projection_foldings (
    only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
    number bigint NOT NULL DEFAULT 0
);
INSERT INTO projection_foldings DEFAULT VALUES;

-- Which event's sealed value an identity has: its events may be folded late, and the rows are the
-- same all the same.
ALTER TABLE identities ADD COLUMN sealed_position bigint;
UPDATE identities SET sealed_position = first_position;
ALTER TABLE identities ALTER COLUMN sealed_position SET NOT NULL;
