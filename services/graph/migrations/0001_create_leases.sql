CREATE TABLE leases (
    name TEXT NOT NULL,
    holder TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT leases_primary PRIMARY KEY (name)
);
