CREATE TABLE usual_pairs (
    graph_arn TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    place BIGINT NOT NULL,
    principal TEXT NOT NULL,
    item TEXT NOT NULL,
    CONSTRAINT usual_pairs_primary PRIMARY KEY (graph_arn, finding_id, place)
);
