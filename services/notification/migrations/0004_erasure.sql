-- Every time that a notification was read: if the first is erased, the next is the first. The
-- notifications fold anew from the first event: later readings are not in the table that they had.
TRUNCATE notifications, notification_reads, delivery_attempts;
DELETE FROM projection_checkpoints WHERE projection = 'notifications';
DELETE FROM parked_keys WHERE projection = 'notifications';

CREATE TABLE notification_readings (
    tenant smallint NOT NULL,
    notification_id uuid NOT NULL,
    position bigint NOT NULL,
    read_at_us bigint NOT NULL,
    event_id uuid NOT NULL,
    owner_key bytea NOT NULL,
    PRIMARY KEY (tenant, notification_id, event_id)
);

-- What is to be deleted when its owner is erased.
CREATE INDEX notifications_of_owners ON notifications (tenant, owner_key);
CREATE INDEX notification_readings_of_owners ON notification_readings (tenant, owner_key);
CREATE INDEX delivery_attempts_of_owners ON delivery_attempts (tenant, owner_key);
CREATE INDEX expectation_tellings_of_owners ON expectation_tellings (tenant, owner_key);
