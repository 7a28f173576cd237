CREATE TABLE policies (
    account_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    name TEXT NOT NULL,
    document TEXT NOT NULL,
    update_time BIGINT NOT NULL,
    CONSTRAINT policies_primary PRIMARY KEY (account_id, principal, name),
    CONSTRAINT policies_principal FOREIGN KEY (account_id, principal) REFERENCES principals (account_id, name) ON DELETE CASCADE
);
