-- The settings of every channel, as GET /v1/channels/{channel}/settings answers them. ``…_changed`` are versions of the
-- channel. Documents are json, not jsonb: they come back as they went in, every character and digit.
CREATE SCHEMA settings_v1;

CREATE TABLE settings_v1.channels (
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
);
CREATE INDEX channels_by_account ON settings_v1.channels (account, channel);

CREATE TABLE settings_v1.business_systems (
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

CREATE TABLE settings_v1.intents (
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

-- Readers read these views, so that another version of the tables can be put behind them in one transaction.
CREATE SCHEMA settings;
CREATE VIEW settings.channels AS SELECT * FROM settings_v1.channels;
CREATE VIEW settings.business_systems AS SELECT * FROM settings_v1.business_systems;
CREATE VIEW settings.intents AS SELECT * FROM settings_v1.intents;
