-- The tables of one version of the intent catalogue, in the schema that the search path names: a rebuild creates them.
CREATE TABLE systems (
    channel text NOT NULL,
    system text NOT NULL,
    name text NOT NULL,
    disabled boolean NOT NULL,
    PRIMARY KEY (channel, system)
);

CREATE TABLE intents (
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
CREATE INDEX intents_by_account ON intents (account, channel, system, code);
CREATE INDEX intents_by_code ON intents (account, code);
CREATE INDEX intents_by_template ON intents USING gin (templates);
