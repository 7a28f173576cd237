CREATE TABLE investigations (
    graph_arn TEXT NOT NULL,
    investigation_id TEXT NOT NULL,
    entity_arn TEXT NOT NULL,
    scope_start BIGINT NOT NULL,
    scope_end BIGINT NOT NULL,
    status TEXT NOT NULL,
    severity BIGINT NOT NULL,
    state TEXT NOT NULL,
    principal TEXT NOT NULL,
    request_id TEXT,
    create_time BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    next_try BIGINT NOT NULL,
    worker TEXT NOT NULL,
    lease_expires BIGINT NOT NULL,
    CONSTRAINT investigations_primary PRIMARY KEY (graph_arn, investigation_id),
    CONSTRAINT investigations_request UNIQUE (graph_arn, principal, request_id),
    CONSTRAINT investigations_graph FOREIGN KEY (graph_arn) REFERENCES investigated_graphs (graph_arn),
    CONSTRAINT investigations_status CHECK (status IN ('FAILED', 'RUNNING', 'SUCCESSFUL')),
    CONSTRAINT investigations_state CHECK (state IN ('ACTIVE', 'ARCHIVED'))
);
CREATE INDEX investigations_by_time ON investigations (graph_arn, create_time, investigation_id);
CREATE INDEX investigations_by_severity ON investigations (graph_arn, severity, investigation_id);
CREATE INDEX investigations_by_status ON investigations (graph_arn, status, investigation_id);
CREATE INDEX investigations_to_do ON investigations (next_try, create_time) WHERE status = 'RUNNING';
