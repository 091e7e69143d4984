-- Upkeep: which replica does a task, and where replicas are.

-- One row per task. The fence grows with each holder and never goes back; what
-- a holder writes carries it. Times are Unix time in ms by the database's clock.
CREATE TABLE IF NOT EXISTS evt_leases (
    stream TEXT NOT NULL,
    task TEXT NOT NULL,
    holder TEXT NOT NULL,
    fence BIGINT NOT NULL,
    renewed BIGINT NOT NULL,
    -- How long the lease is good after it was renewed.
    lapse BIGINT NOT NULL,
    PRIMARY KEY (stream, task)
);

-- What replicas call themselves, for operators.
CREATE TABLE IF NOT EXISTS evt_replica_names (
    stream TEXT NOT NULL,
    replica TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (stream, replica)
);
