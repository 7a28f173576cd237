CREATE TABLE memberships (
    graph_arn TEXT NOT NULL,
    account_id TEXT NOT NULL,
    email TEXT NOT NULL,
    status TEXT NOT NULL,
    disabled_reason TEXT,
    invitation_type TEXT NOT NULL,
    invite_time BIGINT NOT NULL,
    update_time BIGINT NOT NULL,
    CONSTRAINT memberships_primary PRIMARY KEY (graph_arn, account_id),
    CONSTRAINT memberships_graph FOREIGN KEY (graph_arn) REFERENCES graphs (arn) ON DELETE CASCADE
);
CREATE INDEX memberships_by_account ON memberships (account_id, graph_arn);
INSERT INTO memberships (graph_arn, account_id, email, status, disabled_reason, invitation_type, invite_time, update_time)
SELECT graph_arn, account_id, email, status, NULL, 'INVITATION', invite_time, update_time FROM members;
DROP TABLE members;
