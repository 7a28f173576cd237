CREATE TABLE watchlists (
    graph_arn TEXT NOT NULL,
    version BIGINT NOT NULL,
    CONSTRAINT watchlists_primary PRIMARY KEY (graph_arn)
);
CREATE TABLE watchlist_entries (
    graph_arn TEXT NOT NULL,
    entry_id TEXT NOT NULL,
    pattern TEXT NOT NULL,
    criticality TEXT NOT NULL,
    note TEXT NOT NULL,
    author TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    expire_time BIGINT NOT NULL,
    CONSTRAINT watchlist_entries_primary PRIMARY KEY (graph_arn, entry_id)
);
