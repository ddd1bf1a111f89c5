-- The tables of one version of the history, in the schema that the search path names: a rebuild creates them.
-- `entries` has every event and rejection; `topic` is events or outcomes. `resources` has what each resource holds now, so
-- that the next event knows what was before it.
CREATE TABLE entries (
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
CREATE INDEX entries_by_channel ON entries (channel, time, topic, partition, log_offset);
CREATE INDEX entries_by_account ON entries (account, time, topic, partition, log_offset);
CREATE INDEX entries_by_actor ON entries (account, actor, time);
CREATE INDEX entries_by_type ON entries (account, type, time);
CREATE INDEX entries_of_proposed_changes ON entries (channel, resource, version)
    WHERE resource LIKE 'proposed-changes/%';
CREATE INDEX entries_by_correlation ON entries (channel, correlation_id);
CREATE INDEX entries_by_command ON entries (channel, command_id) WHERE command_id <> correlation_id;
CREATE UNIQUE INDEX entries_by_version ON entries (channel, version) WHERE topic = 'events';

CREATE TABLE resources (
    channel text NOT NULL,
    resource text NOT NULL,
    fields json NOT NULL,
    PRIMARY KEY (channel, resource)
) WITH (fillfactor = 70);
