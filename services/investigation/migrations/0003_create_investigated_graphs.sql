CREATE TABLE investigated_graphs (
    graph_arn TEXT NOT NULL,
    started BIGINT NOT NULL,
    CONSTRAINT investigated_graphs_primary PRIMARY KEY (graph_arn)
);
