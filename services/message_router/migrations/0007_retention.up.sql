-- Each router deletes the old messages of its partitions.
CREATE INDEX messages_age ON message_router.messages (partition, requested_at);
