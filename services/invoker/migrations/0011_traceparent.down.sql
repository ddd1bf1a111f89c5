ALTER TABLE invoker.deliveries DROP COLUMN traceparent;
