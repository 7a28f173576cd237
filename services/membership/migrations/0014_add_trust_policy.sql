ALTER TABLE principals ADD COLUMN trust_policy TEXT;
