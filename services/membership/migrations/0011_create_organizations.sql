CREATE TABLE organizations (
    management_account_id TEXT NOT NULL,
    create_time BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT organizations_primary PRIMARY KEY (management_account_id),
    CONSTRAINT organizations_account FOREIGN KEY (management_account_id) REFERENCES accounts (account_id)
);
CREATE TABLE organization_accounts (
    management_account_id TEXT NOT NULL,
    account_id TEXT NOT NULL,
    join_time BIGINT NOT NULL,
    CONSTRAINT organization_accounts_primary PRIMARY KEY (management_account_id, account_id),
    CONSTRAINT organization_accounts_once UNIQUE (account_id),
    CONSTRAINT organization_accounts_organization FOREIGN KEY (management_account_id) REFERENCES organizations (management_account_id),
    CONSTRAINT organization_accounts_account FOREIGN KEY (account_id) REFERENCES accounts (account_id)
);
CREATE TABLE organization_administrators (
    management_account_id TEXT NOT NULL,
    region TEXT NOT NULL,
    account_id TEXT NOT NULL,
    graph_arn TEXT NOT NULL,
    auto_enable BIGINT NOT NULL,
    delegation_time BIGINT NOT NULL,
    CONSTRAINT organization_administrators_primary PRIMARY KEY (management_account_id, region),
    CONSTRAINT organization_administrators_once UNIQUE (graph_arn),
    CONSTRAINT organization_administrators_organization FOREIGN KEY (management_account_id) REFERENCES organizations (management_account_id),
    CONSTRAINT organization_administrators_graph FOREIGN KEY (graph_arn) REFERENCES graphs (arn) ON DELETE CASCADE
);
CREATE INDEX organization_administrators_by_account ON organization_administrators (account_id);
