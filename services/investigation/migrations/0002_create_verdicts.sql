CREATE TABLE verdicts (
    graph_arn TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    verdict_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    note TEXT NOT NULL,
    author TEXT NOT NULL,
    request_id TEXT,
    create_time BIGINT NOT NULL,
    CONSTRAINT verdicts_primary PRIMARY KEY (graph_arn, finding_id, sequence),
    CONSTRAINT verdicts_request UNIQUE (graph_arn, request_id),
    CONSTRAINT verdicts_finding FOREIGN KEY (graph_arn, finding_id) REFERENCES judged_findings (graph_arn, finding_id)
);
