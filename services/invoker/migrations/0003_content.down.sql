DELETE FROM invoker.outbox WHERE value IS NULL OR key IS NULL OR partition IS NOT NULL;
ALTER TABLE invoker.outbox ADD COLUMN channel text;
UPDATE invoker.outbox SET channel = convert_from(key, 'UTF8');
ALTER TABLE invoker.outbox ALTER COLUMN channel SET NOT NULL, ALTER COLUMN value SET NOT NULL,
    ALTER COLUMN topic SET DEFAULT 'switchboard.invocations',
    DROP COLUMN key, DROP COLUMN partition, DROP COLUMN headers;
ALTER TABLE invoker.deliveries DROP COLUMN before_replay;
ALTER TABLE invoker.intents DROP COLUMN schema;
