-- The epoch tells this database's numbers of a partition from those of another database on the same topics, and from
-- those that it lost and gives again.
ALTER TABLE message_router.outbox_numbers ADD epoch text NOT NULL DEFAULT gen_random_uuid()::text;
DROP TABLE message_router.outbox_epoch;

-- Each router works on the timers of its partitions.
CREATE INDEX messages_timers ON message_router.messages (partition, next_timer) WHERE next_timer IS NOT NULL;
DROP INDEX message_router.messages_next_timer_idx;
