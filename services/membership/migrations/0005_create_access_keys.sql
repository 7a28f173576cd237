CREATE TABLE access_keys (
    account_id TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    principal TEXT NOT NULL,
    secret_digest TEXT NOT NULL,
    active BIGINT NOT NULL,
    create_time BIGINT NOT NULL,
    last_used_time BIGINT,
    CONSTRAINT access_keys_primary PRIMARY KEY (account_id, access_key_id),
    CONSTRAINT access_keys_id UNIQUE (access_key_id),
    CONSTRAINT access_keys_principal FOREIGN KEY (account_id, principal) REFERENCES principals (account_id, name) ON DELETE CASCADE
);
CREATE INDEX access_keys_by_principal ON access_keys (account_id, principal);
