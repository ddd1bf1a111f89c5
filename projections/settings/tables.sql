-- The tables of one version of the settings read model, in the schema that the search path names: a rebuild creates them.
-- `…_changed` are versions of the channel: `closed_changed` of the last event of a business system that was not open
-- after it, `intents_changed` of the last event of any intent of the system, deleted ones included.
-- `sections` maps a section's path to {"settings": …, "changed": version of the channel}, once it was changed.
CREATE TABLE channels (
    channel text PRIMARY KEY,
    account text NOT NULL,
    channel_type text NOT NULL,
    name text NOT NULL,
    provider text,
    retired boolean NOT NULL,
    version bigint NOT NULL,
    channel_changed bigint NOT NULL,
    sections jsonb NOT NULL,
    closed_changed bigint NOT NULL,
    home_country text,
    international_rates_from json
) WITH (fillfactor = 70);
CREATE INDEX channels_by_account ON channels (account, channel);
CREATE INDEX channels_by_provider ON channels (provider, account, channel) WHERE provider IS NOT NULL;

CREATE TABLE business_systems (
    channel text NOT NULL,
    system text NOT NULL,
    name text NOT NULL,
    api_request_url text NOT NULL,
    remarks text NOT NULL,
    signature_style text NOT NULL,
    disabled boolean NOT NULL,
    changed bigint NOT NULL,
    signature_changed bigint NOT NULL,
    signatures json NOT NULL,
    intents_changed bigint NOT NULL,
    PRIMARY KEY (channel, system)
);

CREATE TABLE intents (
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    default_data json NOT NULL,
    json_schema json,
    templates text[] NOT NULL,
    changed bigint NOT NULL,
    PRIMARY KEY (channel, system, code)
);
