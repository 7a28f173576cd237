CREATE TABLE registration_lock (
    name TEXT NOT NULL,
    revision BIGINT NOT NULL,
    CONSTRAINT registration_lock_primary PRIMARY KEY (name)
);
INSERT INTO registration_lock (name, revision) VALUES ('accounts', 0);
