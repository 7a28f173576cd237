CREATE TABLE entity_tags (
    graph_arn TEXT NOT NULL,
    entity TEXT NOT NULL,
    tag TEXT NOT NULL,
    content TEXT NOT NULL,
    present BIGINT NOT NULL,
    told BIGINT NOT NULL,
    CONSTRAINT entity_tags_primary PRIMARY KEY (graph_arn, entity, tag)
);
CREATE INDEX entity_tags_by_tag ON entity_tags (graph_arn, tag);
