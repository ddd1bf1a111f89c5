DROP TABLE invoker.listener_calls, invoker.listeners;
ALTER TABLE invoker.deliveries DROP COLUMN to_listener;
