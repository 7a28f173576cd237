ALTER TABLE investigations RENAME COLUMN entity_arn TO target;
UPDATE investigations SET target = CASE WHEN target LIKE '%:user/%' THEN 'user:' ELSE 'role:' END || target;
ALTER TABLE investigations ADD COLUMN principals_done BIGINT NOT NULL DEFAULT 0;
ALTER TABLE investigations ADD COLUMN principals_total BIGINT NOT NULL DEFAULT 0;
ALTER TABLE investigations ADD COLUMN principals_left_out BIGINT NOT NULL DEFAULT 0;
ALTER TABLE investigations ADD COLUMN report TEXT NOT NULL DEFAULT '';
ALTER TABLE indicators ADD COLUMN principal TEXT NOT NULL DEFAULT '';
UPDATE indicators SET principal = (
    SELECT i.target FROM investigations i WHERE i.graph_arn = indicators.graph_arn AND i.investigation_id = indicators.investigation_id
);
