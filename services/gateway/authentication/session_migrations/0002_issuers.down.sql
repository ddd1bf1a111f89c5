DROP TABLE console.log_ons;
DELETE FROM console.sessions WHERE key_id IS NULL;
ALTER TABLE console.sessions
    DROP COLUMN subject,
    DROP COLUMN claims,
    ALTER COLUMN key_id SET NOT NULL;
