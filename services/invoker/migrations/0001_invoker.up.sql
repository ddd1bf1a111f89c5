CREATE SCHEMA invoker;

-- What the invoker needs to know, fed from the events and the signatures (still encrypted).
CREATE TABLE invoker.channels (
    channel text PRIMARY KEY,
    account text NOT NULL,
    retired boolean NOT NULL DEFAULT false,
    version bigint NOT NULL
);
CREATE TABLE invoker.business_systems (
    channel text NOT NULL,
    system text NOT NULL,
    api_request_url text NOT NULL,
    signature_style text NOT NULL,
    disabled boolean NOT NULL DEFAULT false,
    PRIMARY KEY (channel, system)
);
CREATE TABLE invoker.signatures (
    channel text NOT NULL,
    system text NOT NULL,
    key_id text NOT NULL,
    drawn bigint NOT NULL,
    valid_until timestamptz,
    PRIMARY KEY (channel, system, key_id)
);
CREATE TABLE invoker.secrets (
    record_key text PRIMARY KEY,
    encrypted bytea NOT NULL
);
CREATE TABLE invoker.intents (
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    default_data json NOT NULL,
    PRIMARY KEY (channel, system, code)
);

-- One row a request, for as long as its outcome may be asked for. ``waiting``: for settings that are not known yet;
-- ``due``: to be called at due_at; ``parked``: its system is disabled; then ``delivered``, ``dead`` or ``refused``.
CREATE TABLE invoker.deliveries (
    id text PRIMARY KEY,
    account text NOT NULL,
    channel text NOT NULL,
    request_id text NOT NULL,
    correlation_id text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    template text,
    request json NOT NULL,
    body bytea,
    state text NOT NULL CHECK (state IN ('waiting', 'due', 'parked', 'delivered', 'dead', 'refused')),
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    lease uuid,
    leased_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    ended_at timestamptz,
    key_id text,
    reason text,
    UNIQUE (account, channel, request_id)
);
CREATE INDEX deliveries_due ON invoker.deliveries (due_at) WHERE state IN ('due', 'waiting');
CREATE INDEX deliveries_of_system ON invoker.deliveries (channel, system) WHERE state IN ('due', 'parked');
CREATE INDEX deliveries_of_channel ON invoker.deliveries (channel, created_at);

CREATE TABLE invoker.attempts (
    delivery text NOT NULL REFERENCES invoker.deliveries (id) ON DELETE CASCADE,
    number integer NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms integer,
    key_ids text[] NOT NULL,
    status integer,
    stage text,
    error text,
    answer bytea,
    PRIMARY KEY (delivery, number)
);

-- Outcomes that are not on Kafka yet: written with what they tell of, deleted once the broker has them.
CREATE TABLE invoker.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    channel text NOT NULL,
    value bytea NOT NULL
);
