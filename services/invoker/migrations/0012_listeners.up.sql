-- Who listens for calls that are made as tests, and these calls with their answers: invokers and gateways meet here.
ALTER TABLE invoker.deliveries ADD COLUMN to_listener boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN invoker.deliveries.to_listener IS 'a test call that goes to a listener instead of the URL of its system';
CREATE TABLE invoker.listeners (
    account text NOT NULL,
    channel text NOT NULL,
    listener text NOT NULL,
    system text,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (account, channel, listener)
);
COMMENT ON COLUMN invoker.listeners.system IS 'NULL: every system of the channel';
CREATE TABLE invoker.listener_calls (
    delivery text PRIMARY KEY,
    account text NOT NULL,
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    signature_style text NOT NULL,
    body bytea NOT NULL,
    traceparent text,
    deadline timestamptz NOT NULL,
    ended_at timestamptz,
    listener text,
    status integer,
    answer bytea,
    failure text
);
COMMENT ON COLUMN invoker.listener_calls.listener IS 'whose answer counts; NULL where the call ended without one';
CREATE INDEX listener_calls_open ON invoker.listener_calls (account, channel) WHERE ended_at IS NULL;
