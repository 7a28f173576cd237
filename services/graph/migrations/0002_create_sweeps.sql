CREATE TABLE sweeps (
    graph_arn TEXT NOT NULL,
    run BIGINT NOT NULL,
    next_hour BIGINT NOT NULL,
    state TEXT NOT NULL,
    peers TEXT NOT NULL,
    CONSTRAINT sweeps_primary PRIMARY KEY (graph_arn)
);
