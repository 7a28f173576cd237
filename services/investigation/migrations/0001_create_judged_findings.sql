CREATE TABLE judged_findings (
    graph_arn TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    latest BIGINT NOT NULL,
    CONSTRAINT judged_findings_primary PRIMARY KEY (graph_arn, finding_id)
);
