ALTER TABLE invoker.outbox DROP COLUMN held_until;
