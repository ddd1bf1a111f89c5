DROP INDEX message_router.messages_age;
