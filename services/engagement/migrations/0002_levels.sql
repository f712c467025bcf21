-- Up to which UTC midnight, in days since 1970, it was looked whose level changed by decay alone.
-- It can't be folded again: a reactor's state.
CREATE TABLE level_sweeps (
    tenant smallint NOT NULL,
    model text NOT NULL,
    day integer NOT NULL,
    PRIMARY KEY (tenant, model)
);
