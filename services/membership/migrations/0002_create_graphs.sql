CREATE TABLE graphs (
    account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    arn TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT graphs_primary PRIMARY KEY (account_id, region),
    CONSTRAINT graphs_arn UNIQUE (arn),
    CONSTRAINT graphs_account FOREIGN KEY (account_id) REFERENCES accounts (account_id)
);
