-- A key has roles, and a scope instead of its one role. The keys there are keep all that they could do.
ALTER TABLE gateway.api_keys
    ADD COLUMN roles text[] NOT NULL DEFAULT '{viewer,editor,signature-keeper,auditor,approver,administrator}',
    ADD COLUMN scope text,
    ADD COLUMN provider text,
    ADD COLUMN channel text,
    ADD COLUMN networks cidr[] NOT NULL DEFAULT '{}',
    ADD COLUMN created_by text,
    ADD COLUMN replaces text,
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN last_used_at timestamptz;
UPDATE gateway.api_keys SET scope = role;
ALTER TABLE gateway.api_keys
    ALTER COLUMN roles DROP DEFAULT,
    ALTER COLUMN scope SET NOT NULL,
    DROP COLUMN role,
    ADD CHECK (cardinality(roles) > 0),
    ADD CHECK (scope IN ('platform', 'provider', 'account', 'channel')),
    ADD CHECK ((scope IN ('account', 'channel')) = (account IS NOT NULL)),
    ADD CHECK ((scope = 'channel') = (channel IS NOT NULL)),
    ADD CHECK ((scope = 'provider') = (provider IS NOT NULL));
CREATE INDEX api_keys_of_account ON gateway.api_keys (account, created_at);
