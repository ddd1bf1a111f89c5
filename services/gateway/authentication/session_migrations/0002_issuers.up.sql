-- A session stands for an API key, or for the subject of an issuer's token with those of its claims that grants name.
ALTER TABLE console.sessions
    ALTER COLUMN key_id DROP NOT NULL,
    ADD COLUMN subject text,
    ADD COLUMN claims json,
    ADD CHECK ((key_id IS NULL) = (subject IS NOT NULL)),
    ADD CHECK ((subject IS NULL) = (claims IS NULL));

-- Somebody who is at an issuer to log on, and whose browser has the state.
CREATE TABLE console.log_ons (
    state_sha256 bytea PRIMARY KEY,
    issuer text NOT NULL,
    nonce text NOT NULL,
    code_verifier text NOT NULL,
    next text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
