DROP INDEX message_router.channels_channel_idx;
DROP TABLE message_router.rate_notices;
