ALTER TABLE access_keys ADD COLUMN secret_key_id TEXT;
ALTER TABLE access_keys ADD COLUMN secret_ciphertext TEXT;
