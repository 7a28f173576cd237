CREATE TABLE principals (
    account_id TEXT NOT NULL,
    name TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT principals_primary PRIMARY KEY (account_id, name),
    CONSTRAINT principals_account FOREIGN KEY (account_id) REFERENCES accounts (account_id)
);
