CREATE TABLE sources (
    graph_arn TEXT NOT NULL,
    name TEXT NOT NULL,
    source_id TEXT NOT NULL,
    url TEXT NOT NULL,
    poll_interval BIGINT NOT NULL,
    lookback BIGINT NOT NULL,
    sqs_queue_url TEXT NOT NULL,
    region TEXT NOT NULL,
    endpoint_url TEXT NOT NULL,
    eks_cluster TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    last_list_time BIGINT NOT NULL,
    last_error TEXT NOT NULL,
    CONSTRAINT sources_primary PRIMARY KEY (graph_arn, name),
    CONSTRAINT sources_id UNIQUE (graph_arn, source_id)
);
