CREATE TABLE suppressions (
    graph_arn TEXT NOT NULL,
    suppression_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    finding_type TEXT NOT NULL,
    product TEXT NOT NULL,
    account TEXT NOT NULL,
    entities TEXT NOT NULL,
    finding_id TEXT NOT NULL,
    verdict_id TEXT NOT NULL,
    author TEXT NOT NULL,
    past_findings BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    state TEXT NOT NULL,
    decider TEXT NOT NULL,
    decide_time BIGINT NOT NULL,
    deleter TEXT NOT NULL,
    delete_time BIGINT NOT NULL,
    CONSTRAINT suppressions_primary PRIMARY KEY (graph_arn, suppression_id),
    CONSTRAINT suppressions_state CHECK (state IN ('PROPOSED', 'ACCEPTED', 'DISMISSED', 'DELETED'))
);
CREATE UNIQUE INDEX suppressions_pattern ON suppressions (graph_arn, digest) WHERE state <> 'DELETED';
CREATE INDEX suppressions_by_finding ON suppressions (graph_arn, finding_id) WHERE state = 'PROPOSED';
