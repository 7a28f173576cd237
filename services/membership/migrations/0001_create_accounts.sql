CREATE TABLE accounts (
    account_id TEXT NOT NULL,
    registered_by TEXT NOT NULL,
    name TEXT NOT NULL,
    email TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    CONSTRAINT accounts_primary PRIMARY KEY (account_id)
);
CREATE INDEX accounts_by_registrar ON accounts (registered_by, account_id);
