CREATE TABLE graph_removals (
    graph_arn TEXT NOT NULL,
    request_time BIGINT NOT NULL,
    due_time BIGINT NOT NULL,
    lease_time BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    CONSTRAINT graph_removals_primary PRIMARY KEY (graph_arn)
);
CREATE INDEX graph_removals_by_due_time ON graph_removals (due_time);
