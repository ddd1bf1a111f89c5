CREATE SCHEMA console;

-- Tokens are 32 random bytes: a plain SHA-256 of one cannot be searched for, so no slow hash is needed.
CREATE TABLE console.sessions (
    token_sha256 bytea PRIMARY KEY,
    key_id text NOT NULL,
    account text,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now()
);
