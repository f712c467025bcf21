-- Decisions to tell somebody something, sealed as the store keeps them: what is personal is opened on
-- reading. An employee's or a team's inbox is found by the keyed hash of the reference, a customer's
-- by the identity that owns the decision.
CREATE TABLE notifications (
    tenant smallint NOT NULL,
    notification_id uuid NOT NULL,
    position bigint NOT NULL,
    recorded_at_us bigint NOT NULL,
    owner_key bytea NOT NULL,
    cause_id uuid,
    recipient_key bytea,
    in_inbox boolean NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (tenant, notification_id)
);
ALTER TABLE notifications ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX notifications_of_references ON notifications (tenant, recipient_key, position)
    WHERE in_inbox AND recipient_key IS NOT NULL;
CREATE INDEX notifications_of_customers ON notifications (tenant, owner_key, position)
    WHERE in_inbox AND recipient_key IS NULL;
CREATE INDEX notifications_of_causes ON notifications (tenant, cause_id, position);

-- The first time that each was read. It may arrive before the notification does.
CREATE TABLE notification_reads (
    tenant smallint NOT NULL,
    notification_id uuid NOT NULL,
    position bigint NOT NULL,
    read_at_us bigint NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL,
    PRIMARY KEY (tenant, notification_id)
);
CREATE INDEX notification_reads_positions ON notification_reads (tenant, position);

-- What is on the line of attempts to deliver, sealed likewise.
CREATE TABLE delivery_attempts (
    tenant smallint NOT NULL,
    notification_id uuid NOT NULL,
    position bigint NOT NULL,
    owner_key bytea NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (tenant, notification_id, position)
);
ALTER TABLE delivery_attempts ALTER COLUMN record SET STORAGE EXTERNAL;

-- The work of delivering: a row per notification and channel, of which at most one process has hold.
-- `state` is touchline.notification.v1.DeliveryState. `settled` is the last attempt whose outcome
-- the row knows, `attempts_before` how many had been made when somebody asked for a dead letter to
-- be tried again, `lost_claims` how many attempts ended without a record.
CREATE TABLE deliveries (
    tenant smallint NOT NULL,
    notification_id uuid NOT NULL,
    channel smallint NOT NULL,
    position bigint NOT NULL,
    state smallint NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    attempts_before integer NOT NULL DEFAULT 0,
    settled integer NOT NULL DEFAULT 0,
    due_at_us bigint NOT NULL,
    expires_at_us bigint NOT NULL,
    claimed_until timestamptz,
    claimed_by uuid,
    lost_claims integer NOT NULL DEFAULT 0,
    possibly_repeated boolean NOT NULL DEFAULT false,
    reason text NOT NULL DEFAULT '',
    ended_at_us bigint,
    owner_key bytea NOT NULL,
    recorded_at_us bigint NOT NULL,
    record bytea NOT NULL,
    PRIMARY KEY (tenant, notification_id, channel)
);
ALTER TABLE deliveries ALTER COLUMN record SET STORAGE EXTERNAL;
CREATE INDEX deliveries_waiting ON deliveries (channel, due_at_us) WHERE state = 1;
CREATE INDEX deliveries_claimed ON deliveries (channel, claimed_until) WHERE state = 2;
CREATE INDEX deliveries_listed ON deliveries (tenant, position, channel);

-- Where employees and teams are reached. It is not on the line, so it is backed up.
CREATE TABLE recipients (
    tenant smallint NOT NULL,
    reference text NOT NULL,
    email text NOT NULL,
    webhook_url text NOT NULL,
    PRIMARY KEY (tenant, reference)
);
