CREATE TABLE grouped_graphs (
    graph_arn TEXT NOT NULL,
    seen BIGINT NOT NULL,
    seen_time BIGINT NOT NULL,
    grouped BIGINT NOT NULL,
    next_try BIGINT NOT NULL,
    worker TEXT NOT NULL,
    lease_expires BIGINT NOT NULL,
    CONSTRAINT grouped_graphs_primary PRIMARY KEY (graph_arn)
);
CREATE INDEX grouped_graphs_to_do ON grouped_graphs (next_try) WHERE seen <> grouped;
CREATE TABLE finding_groups (
    graph_arn TEXT NOT NULL,
    group_id TEXT NOT NULL,
    status TEXT NOT NULL,
    severity BIGINT NOT NULL,
    first_time BIGINT NOT NULL,
    last_time BIGINT NOT NULL,
    overview TEXT NOT NULL,
    body TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    merged_into TEXT NOT NULL,
    split_from TEXT NOT NULL,
    CONSTRAINT finding_groups_primary PRIMARY KEY (graph_arn, group_id),
    CONSTRAINT finding_groups_graph FOREIGN KEY (graph_arn) REFERENCES grouped_graphs (graph_arn),
    CONSTRAINT finding_groups_status CHECK (status IN ('OPEN', 'CLOSED', 'DISSOLVED', 'MERGED')),
    CONSTRAINT finding_groups_merged CHECK ((status = 'MERGED') = (merged_into <> ''))
);
CREATE INDEX finding_groups_by_severity ON finding_groups (graph_arn, severity, last_time, group_id) WHERE status <> 'MERGED';
CREATE INDEX finding_groups_by_heir ON finding_groups (graph_arn, merged_into) WHERE status = 'MERGED';
CREATE TABLE grouped_findings (
    graph_arn TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    group_id TEXT NOT NULL,
    CONSTRAINT grouped_findings_primary PRIMARY KEY (graph_arn, finding_id),
    CONSTRAINT grouped_findings_group FOREIGN KEY (graph_arn, group_id) REFERENCES finding_groups (graph_arn, group_id)
);
CREATE INDEX grouped_findings_by_group ON grouped_findings (graph_arn, group_id);
CREATE TABLE grouped_entities (
    graph_arn TEXT NOT NULL,
    group_id TEXT NOT NULL,
    entity TEXT NOT NULL,
    CONSTRAINT grouped_entities_primary PRIMARY KEY (graph_arn, group_id, entity),
    CONSTRAINT grouped_entities_group FOREIGN KEY (graph_arn, group_id) REFERENCES finding_groups (graph_arn, group_id)
);
CREATE INDEX grouped_entities_by_entity ON grouped_entities (graph_arn, entity);
CREATE TABLE finding_group_decisions (
    graph_arn TEXT NOT NULL,
    group_id TEXT NOT NULL,
    decision_id TEXT NOT NULL,
    status TEXT NOT NULL,
    note TEXT NOT NULL,
    author TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    CONSTRAINT finding_group_decisions_primary PRIMARY KEY (graph_arn, group_id, decision_id),
    CONSTRAINT finding_group_decisions_group FOREIGN KEY (graph_arn, group_id) REFERENCES finding_groups (graph_arn, group_id)
);
