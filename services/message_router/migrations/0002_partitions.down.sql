CREATE INDEX messages_next_timer_idx ON message_router.messages (next_timer) WHERE next_timer IS NOT NULL;
DROP INDEX message_router.messages_timers;
CREATE TABLE message_router.outbox_epoch (epoch text NOT NULL);
INSERT INTO message_router.outbox_epoch VALUES (gen_random_uuid()::text);
ALTER TABLE message_router.outbox_numbers DROP epoch;
