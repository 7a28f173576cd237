CREATE TABLE package_changes (
    graph_arn TEXT NOT NULL,
    account_id TEXT NOT NULL,
    package TEXT NOT NULL,
    state TEXT NOT NULL,
    time BIGINT NOT NULL,
    CONSTRAINT package_changes_primary PRIMARY KEY (graph_arn, account_id, package, state),
    CONSTRAINT package_changes_graph FOREIGN KEY (graph_arn) REFERENCES graphs (arn) ON DELETE CASCADE
);
-- Graphs that are there already took every kind of log: they go on taking it.
INSERT INTO package_changes (graph_arn, account_id, package, state, time)
SELECT graphs.arn, graphs.account_id, packages.package, 'STARTED', graphs.create_time
FROM graphs
CROSS JOIN (SELECT 'DETECTIVE_CORE' AS package UNION ALL SELECT 'EKS_AUDIT' UNION ALL SELECT 'ASFF_SECURITYHUB_FINDING') AS packages;
INSERT INTO package_changes (graph_arn, account_id, package, state, time)
SELECT memberships.graph_arn, memberships.account_id, packages.package,
    CASE WHEN memberships.status = 'ENABLED' THEN 'STARTED' ELSE 'DISABLED' END, memberships.update_time
FROM memberships
CROSS JOIN (SELECT 'DETECTIVE_CORE' AS package UNION ALL SELECT 'EKS_AUDIT' UNION ALL SELECT 'ASFF_SECURITYHUB_FINDING') AS packages;
