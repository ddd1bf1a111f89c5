ALTER TABLE gateway.api_keys DROP COLUMN owner;
