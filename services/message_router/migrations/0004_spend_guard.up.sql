-- The spend guard of a channel, as its event has it; null where none was saved.
ALTER TABLE message_router.channels ADD COLUMN spend_guard json;

-- The authentication messages of a channel to a country that did not fail, on the last day on which there was one.
CREATE TABLE message_router.daily_messages (
    channel text NOT NULL,
    country text NOT NULL,
    day date NOT NULL,
    messages bigint NOT NULL,
    PRIMARY KEY (channel, country)
);
