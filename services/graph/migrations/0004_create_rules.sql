CREATE TABLE rules (
    graph_arn TEXT NOT NULL,
    rule_id TEXT NOT NULL,
    document TEXT NOT NULL,
    author TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    CONSTRAINT rules_primary PRIMARY KEY (graph_arn, rule_id)
);
CREATE TABLE rule_revisions (
    graph_arn TEXT NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT rule_revisions_primary PRIMARY KEY (graph_arn)
);
