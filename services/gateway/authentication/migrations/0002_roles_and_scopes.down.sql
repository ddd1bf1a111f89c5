-- A key that may do less than all would become a stronger one: it is revoked instead, and stays so.
UPDATE gateway.api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE cardinality(roles) < 6 OR scope IN ('provider', 'channel') OR cardinality(networks) > 0 OR expires_at IS NOT NULL;
ALTER TABLE gateway.api_keys ADD COLUMN role text;
UPDATE gateway.api_keys SET role = CASE WHEN account IS NULL THEN 'platform' ELSE 'account' END;
DROP INDEX gateway.api_keys_of_account;
ALTER TABLE gateway.api_keys
    DROP COLUMN roles, DROP COLUMN scope, DROP COLUMN provider, DROP COLUMN channel, DROP COLUMN networks,
    DROP COLUMN created_by, DROP COLUMN replaces, DROP COLUMN expires_at, DROP COLUMN last_used_at,
    ALTER COLUMN role SET NOT NULL,
    ADD CHECK (role IN ('platform', 'account')),
    ADD CHECK ((role = 'account') = (account IS NOT NULL));
