CREATE TABLE indicators (
    graph_arn TEXT NOT NULL,
    investigation_id TEXT NOT NULL,
    place BIGINT NOT NULL,
    kind TEXT NOT NULL,
    detail TEXT NOT NULL,
    CONSTRAINT indicators_primary PRIMARY KEY (graph_arn, investigation_id, place),
    CONSTRAINT indicators_investigation FOREIGN KEY (graph_arn, investigation_id) REFERENCES investigations (graph_arn, investigation_id)
);
