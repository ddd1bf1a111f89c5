DROP TABLE message_router.counters;
