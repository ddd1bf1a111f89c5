-- The field's words: a queue per system and lane, counters, attempts that do not count, reserved outbox rows.
ALTER TABLE invoker.lines RENAME TO queues;
ALTER INDEX invoker.lines_pkey RENAME TO queues_pkey;
ALTER INDEX invoker.lines_awake RENAME TO queues_awake;
ALTER TABLE invoker.tallies RENAME TO counters;
ALTER INDEX invoker.tallies_pkey RENAME TO counters_pkey;
ALTER TABLE invoker.deliveries RENAME COLUMN excused TO uncounted;
ALTER TABLE invoker.deliveries RENAME COLUMN before_replay TO attempts_before_replay;
ALTER TABLE invoker.deliveries RENAME COLUMN key_alone TO only_key_id;
COMMENT ON COLUMN invoker.deliveries.uncounted IS 'attempts that do not count: those that ended by our own fault, and those before the last replay';
COMMENT ON COLUMN invoker.deliveries.attempts_before_replay IS 'attempts before the last replay; uncounted includes them';
COMMENT ON COLUMN invoker.deliveries.only_key_id IS 'a test call: the one signature that it carries';
ALTER TABLE invoker.outbox RENAME COLUMN held_until TO reserved_until;
ALTER TABLE invoker.signatures RENAME COLUMN drawn TO issued_at_version;
