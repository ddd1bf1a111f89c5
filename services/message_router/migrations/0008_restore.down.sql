DROP TABLE message_router.published;
DROP TABLE message_router.verified_partitions;
