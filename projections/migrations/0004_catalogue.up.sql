-- The intents that a template's buttons can call, for those who design templates.
CREATE SCHEMA catalogue;

CREATE TABLE catalogue.systems (
    channel text NOT NULL,
    system text NOT NULL,
    name text NOT NULL,
    disabled boolean NOT NULL,
    PRIMARY KEY (channel, system)
);

CREATE TABLE catalogue.intents (
    account text NOT NULL,
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    default_data json NOT NULL,
    json_schema json,
    templates text[] NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (channel, system, code)
);
CREATE INDEX intents_by_account ON catalogue.intents (account, channel, system, code);
CREATE INDEX intents_by_code ON catalogue.intents (account, code);
CREATE INDEX intents_by_template ON catalogue.intents USING gin (templates);
