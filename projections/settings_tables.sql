-- The tables of one version of the read model of settings, in the schema that the search path names. What they hold is
-- said in migrations/0001_settings.up.sql; `switchboard projections rebuild settings` makes them anew from here.
CREATE TABLE channels (
    channel text PRIMARY KEY,
    account text NOT NULL,
    channel_type text NOT NULL,
    name text NOT NULL,
    provider text,
    retired boolean NOT NULL,
    version bigint NOT NULL,
    channel_changed bigint NOT NULL,
    sms_enabled boolean NOT NULL,
    sms_changed bigint NOT NULL,
    otp_enabled boolean NOT NULL,
    otp_countries text[] NOT NULL,
    otp_use_own_numbers boolean NOT NULL,
    otp_changed bigint NOT NULL
) WITH (fillfactor = 70);
CREATE INDEX channels_by_account ON channels (account, channel);

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

CREATE TABLE positions (
    partition integer PRIMARY KEY,
    sequence bigint NOT NULL
);
