-- Whoever tells publishes from its memory what it has just committed; what it did not come to by then is anybody's.
ALTER TABLE invoker.outbox ADD COLUMN held_until timestamptz NOT NULL DEFAULT now();
