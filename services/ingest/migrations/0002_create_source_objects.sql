CREATE TABLE source_objects (
    graph_arn TEXT NOT NULL,
    source_id TEXT NOT NULL,
    object_id TEXT NOT NULL,
    object_key TEXT NOT NULL,
    etag TEXT NOT NULL,
    account TEXT NOT NULL,
    region TEXT NOT NULL,
    size BIGINT NOT NULL,
    modify_time BIGINT NOT NULL,
    first_hour BIGINT NOT NULL,
    last_hour BIGINT NOT NULL,
    state TEXT NOT NULL,
    failure TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_try BIGINT NOT NULL,
    claimed_by TEXT NOT NULL,
    claim_expires BIGINT NOT NULL,
    seen_time BIGINT NOT NULL,
    finish_time BIGINT NOT NULL,
    records BIGINT NOT NULL,
    events BIGINT NOT NULL,
    duplicates BIGINT NOT NULL,
    dead_letters BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    already_committed BIGINT NOT NULL,
    CONSTRAINT source_objects_primary PRIMARY KEY (graph_arn, source_id, object_id),
    CONSTRAINT source_objects_source FOREIGN KEY (graph_arn, source_id) REFERENCES sources (graph_arn, source_id) ON DELETE CASCADE,
    CONSTRAINT source_objects_state CHECK (state IN ('seen', 'done', 'failed'))
);
CREATE INDEX source_objects_by_key ON source_objects (graph_arn, source_id, object_key, etag);
CREATE INDEX source_objects_to_do ON source_objects (graph_arn, source_id, next_try, modify_time) WHERE state <> 'done';
CREATE INDEX source_objects_by_finish ON source_objects (graph_arn, source_id, finish_time);
CREATE INDEX source_objects_by_hour ON source_objects (graph_arn, source_id, account, region, first_hour, last_hour);
CREATE INDEX source_objects_by_claim ON source_objects (claimed_by) WHERE claimed_by <> '';
