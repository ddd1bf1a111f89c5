DROP TABLE message_router.published;
ALTER TABLE message_router.messages DROP COLUMN due_at;
DROP TABLE message_router.verified_partitions;
