-- Every delivery is written three times; each index on it, and each check of a reference to it, is paid for as often.
ALTER TABLE invoker.attempts DROP CONSTRAINT attempts_delivery_fkey;
DROP INDEX invoker.deliveries_pending, invoker.deliveries_of_system;
CREATE INDEX deliveries_parked ON invoker.deliveries (channel, system) WHERE state = 'parked';
