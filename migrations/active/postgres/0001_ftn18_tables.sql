-- The two tables of FTN18, as the original makes them. A database that has
-- them already is adopted as it stands.
CREATE TABLE IF NOT EXISTS evt_queue (
    id bigserial NOT NULL PRIMARY KEY,
    type VARCHAR(16) NOT NULL,
    data JSON NOT NULL,
    ts TIMESTAMP NOT NULL
);

CREATE TABLE IF NOT EXISTS evt_consumers (
    id serial2 NOT NULL PRIMARY KEY,
    last_evt_id BIGINT NOT NULL DEFAULT 0,
    reg_time TIMESTAMP NOT NULL,
    last_time TIMESTAMP NOT NULL,
    ident VARCHAR(64) NOT NULL UNIQUE
);

CREATE INDEX IF NOT EXISTS evt_consumers_last_evt_id ON evt_consumers (last_evt_id);
