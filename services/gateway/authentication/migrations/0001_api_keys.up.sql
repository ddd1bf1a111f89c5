CREATE SCHEMA gateway;

-- Tokens are 32 random bytes: a plain SHA-256 of one cannot be searched for, so no slow hash is needed.
CREATE TABLE gateway.api_keys (
    key_id text PRIMARY KEY,
    token_sha256 bytea NOT NULL,
    role text NOT NULL CHECK (role IN ('platform', 'account')),
    account text,
    label text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz,
    CHECK ((role = 'account') = (account IS NOT NULL))
);
