DROP TABLE invoker.stored_bytes, invoker.stored_bytes_changes;
ALTER TABLE invoker.deliveries DROP COLUMN stored_bytes;
