-- Every event and rejection: who, from where, before and after. ``topic`` is events or outcomes.
CREATE SCHEMA history;

CREATE TABLE history.entries (
    topic text NOT NULL,
    partition integer NOT NULL,
    log_offset bigint NOT NULL,
    id text NOT NULL,
    time timestamptz NOT NULL,
    account text NOT NULL,
    channel text NOT NULL,
    version bigint,
    type text NOT NULL,
    command text,
    command_id text NOT NULL,
    correlation_id text NOT NULL,
    actor text,
    source text,
    resource text,
    before json,
    after json,
    data json,
    rejection text,
    message text,
    repeated boolean NOT NULL,
    PRIMARY KEY (topic, partition, log_offset)
);
CREATE INDEX entries_by_channel ON history.entries (channel, time, topic, partition, log_offset);
CREATE INDEX entries_by_account ON history.entries (account, time, topic, partition, log_offset);
CREATE INDEX entries_by_actor ON history.entries (account, actor, time);
CREATE INDEX entries_by_type ON history.entries (account, type, time);
CREATE UNIQUE INDEX entries_by_version ON history.entries (channel, version) WHERE topic = 'events';

-- What each resource holds now, so that the next event knows what was before it.
CREATE TABLE history.resources (
    channel text NOT NULL,
    resource text NOT NULL,
    fields json NOT NULL,
    PRIMARY KEY (channel, resource)
);
