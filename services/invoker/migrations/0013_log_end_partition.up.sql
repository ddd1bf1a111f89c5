-- A channel may move to another partition while a request of it waits. What waits already is asked for again.
ALTER TABLE invoker.deliveries ADD COLUMN log_end_partition int;
COMMENT ON COLUMN invoker.deliveries.log_end_partition IS 'the partition of switchboard.events that log_end is of';
