CREATE TABLE outbox (
    graph_arn TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    sequence BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_try BIGINT NOT NULL,
    worker TEXT NOT NULL,
    lease_expires BIGINT NOT NULL,
    CONSTRAINT outbox_primary PRIMARY KEY (graph_arn, finding_id),
    CONSTRAINT outbox_verdict FOREIGN KEY (graph_arn, finding_id, sequence) REFERENCES verdicts (graph_arn, finding_id, sequence)
);
CREATE INDEX outbox_to_do ON outbox (next_try);
