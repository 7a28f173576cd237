CREATE TABLE members (
    graph_arn TEXT NOT NULL,
    account_id TEXT NOT NULL,
    email TEXT NOT NULL,
    status TEXT NOT NULL,
    invite_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    CONSTRAINT members_primary PRIMARY KEY (graph_arn, account_id),
    CONSTRAINT members_graph FOREIGN KEY (graph_arn) REFERENCES graphs (arn),
    CONSTRAINT members_account FOREIGN KEY (account_id) REFERENCES accounts (account_id)
);
CREATE INDEX members_by_account ON members (account_id, graph_arn);
