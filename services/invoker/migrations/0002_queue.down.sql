DROP TABLE invoker.tallies;
ALTER TABLE invoker.outbox DROP COLUMN topic;
ALTER TABLE invoker.attempts DROP COLUMN accepted_key_id;
ALTER TABLE invoker.signatures DROP COLUMN accepted_at, DROP COLUMN accepted_how, DROP COLUMN accepted_delivery;
DROP TABLE invoker.circuits;
DROP TABLE invoker.lines;
DROP INDEX invoker.deliveries_claimable, invoker.deliveries_leased, invoker.deliveries_waiting,
    invoker.deliveries_pending, invoker.deliveries_expiring, invoker.deliveries_ended, invoker.deliveries_of_account;
ALTER TABLE invoker.deliveries
    DROP COLUMN lane, DROP COLUMN log_end, DROP COLUMN claimed_at, DROP COLUMN replayed_by, DROP COLUMN replays,
    DROP COLUMN excused, DROP COLUMN key_alone, DROP COLUMN test;
CREATE INDEX deliveries_due ON invoker.deliveries (due_at) WHERE state IN ('due', 'waiting');
