-- What the data of a request must satisfy.
ALTER TABLE invoker.intents ADD COLUMN schema json;

ALTER TABLE invoker.deliveries ADD COLUMN before_replay integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN invoker.deliveries.before_replay IS 'attempts that were made before the last replay; excused has them too';

-- Any record waits in the outbox, dead letters too: its key's bytes as they came, its partition where the key does not
-- say it, and headers as name, value, name, value.
ALTER TABLE invoker.outbox ADD COLUMN key bytea, ADD COLUMN partition integer,
    ADD COLUMN headers text[] NOT NULL DEFAULT '{}', ALTER COLUMN topic DROP DEFAULT, ALTER COLUMN value DROP NOT NULL;
UPDATE invoker.outbox SET key = convert_to(channel, 'UTF8');
ALTER TABLE invoker.outbox DROP COLUMN channel;
