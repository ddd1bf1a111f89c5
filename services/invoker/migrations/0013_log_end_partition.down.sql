ALTER TABLE invoker.deliveries DROP COLUMN log_end_partition;
