CREATE TABLE graph_tags (
    graph_arn TEXT NOT NULL,
    tag_key TEXT NOT NULL,
    tag_value TEXT NOT NULL,
    CONSTRAINT graph_tags_primary PRIMARY KEY (graph_arn, tag_key),
    CONSTRAINT graph_tags_graph FOREIGN KEY (graph_arn) REFERENCES graphs (arn) ON DELETE CASCADE
);
