-- A row that was there: the lowest above the slowest position. When it is gone
-- although no consumer has had it, somebody has deleted what nobody has read,
-- be it while no service ran. 0: none was seen.
ALTER TABLE evt_stream ADD COLUMN witness BIGINT NOT NULL DEFAULT 0;
