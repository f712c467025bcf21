-- The changes of aggregates in the order of the line (AggregateChanged has type 33). Facts pay
-- nothing for it. Building it reads the line once, and appends wait meanwhile.
CREATE INDEX changes_of_aggregates ON events (tenant, position) WHERE type = 33;
