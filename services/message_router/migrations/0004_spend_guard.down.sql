DROP TABLE message_router.daily_messages;
ALTER TABLE message_router.channels DROP COLUMN spend_guard;
