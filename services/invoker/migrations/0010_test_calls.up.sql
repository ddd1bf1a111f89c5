-- The test calls of the last minute, which count to their accounts' rate; the sweeper deletes older rows.
CREATE TABLE invoker.test_calls (
    account text NOT NULL,
    channel text NOT NULL,
    request_id text NOT NULL,
    requested_at timestamptz NOT NULL,
    PRIMARY KEY (account, channel, request_id)
);
CREATE INDEX test_calls_by_time ON invoker.test_calls (requested_at);
