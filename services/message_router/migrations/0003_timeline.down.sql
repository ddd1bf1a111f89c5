DROP TABLE message_router.notices;
DROP INDEX message_router.messages_newest;
ALTER TABLE message_router.messages DROP COLUMN refusal;
