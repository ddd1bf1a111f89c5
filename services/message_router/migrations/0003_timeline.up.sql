-- Why a request was refused for good: the data of its RoutingRefused.
ALTER TABLE message_router.messages ADD COLUMN refusal json;

-- A channel's messages, newest first.
CREATE INDEX messages_newest ON message_router.messages (channel, account, requested_at, message);

-- What was told of a message after its decision, in its order: settled, fallback, charge.
CREATE TABLE message_router.notices (
    number bigint GENERATED ALWAYS AS IDENTITY,
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    type text NOT NULL,
    told_at bigint NOT NULL,
    data json NOT NULL,
    PRIMARY KEY (channel, account, message, number)
);
