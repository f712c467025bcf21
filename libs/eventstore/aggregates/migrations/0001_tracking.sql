-- Up to which of an application's notifications a view has come, beside the view's own tables.
CREATE TABLE aggregate_tracking (
    view text NOT NULL,
    application_name text NOT NULL,
    notification_id bigint NOT NULL,
    PRIMARY KEY (view, application_name)
);
