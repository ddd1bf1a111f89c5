-- The access log, and at the same time the outbox of its topic: a record is written in the transaction of what it
-- tells of, and published once that is committed. `record` is the CloudEvent as it is published; `account`, `channel`
-- and `provider` say whose auditors see it.
CREATE TABLE gateway.access_log (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    time timestamptz NOT NULL,
    type text NOT NULL,
    account text,
    channel text,
    provider text,
    record json NOT NULL,
    published boolean NOT NULL DEFAULT false
);
CREATE INDEX access_log_of_account ON gateway.access_log (account, number);
CREATE INDEX access_log_unpublished ON gateway.access_log (number) WHERE NOT published;
CREATE INDEX access_log_by_time ON gateway.access_log USING brin (time);
