CREATE SCHEMA message_router;

-- What routing needs of the settings, fed from the events.
CREATE TABLE message_router.channels (
    channel text PRIMARY KEY,
    account text NOT NULL,
    version bigint NOT NULL,
    channel_type text NOT NULL,
    retired boolean NOT NULL DEFAULT false,
    sms_enabled boolean NOT NULL DEFAULT false,
    scheduling_enabled boolean NOT NULL DEFAULT false,
    countries text[] NOT NULL DEFAULT '{}',
    use_own_numbers boolean NOT NULL DEFAULT false,
    home_country text,
    international_rates_from json NOT NULL DEFAULT '{}'
);

-- Every rate book that was applied: a decision cites its version.
CREATE TABLE message_router.rate_books (
    version bigint PRIMARY KEY,
    book json NOT NULL
);

-- The last report of each scheduling resource. ``taken`` counts the units reserved or posted since ``as_of``.
CREATE TABLE message_router.resources (
    resource text PRIMARY KEY,
    country text NOT NULL,
    sender text NOT NULL,
    units bigint NOT NULL,
    as_of bigint NOT NULL,
    valid_until bigint NOT NULL,
    withdrawn boolean NOT NULL DEFAULT false,
    taken bigint NOT NULL DEFAULT 0
);
CREATE INDEX ON message_router.resources (country);

-- One row per request. ``waiting``: for settings that are not known yet. Times are Unix milliseconds.
CREATE TABLE message_router.messages (
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    partition integer NOT NULL,
    digest text NOT NULL,
    correlation_id text NOT NULL,
    state text NOT NULL CHECK (state IN ('waiting', 'routed', 'refused')),
    requested_at bigint NOT NULL,
    log_end bigint,
    asked_version bigint,
    category text NOT NULL,
    country text,
    country_source text NOT NULL,
    recipient_hash text NOT NULL,
    fallback_on text[],
    fallback_wait_seconds integer,
    fallback_to bytea,
    decided_at bigint,
    settings_version bigint,
    decision json,
    resource text,
    reservation text NOT NULL DEFAULT 'none',
    reserved_until bigint,
    posted_late boolean NOT NULL DEFAULT false,
    fallback text NOT NULL DEFAULT 'none',
    fires_at bigint,
    seen text[] NOT NULL DEFAULT '{}',
    double_charge_told boolean NOT NULL DEFAULT false,
    next_timer bigint,
    PRIMARY KEY (channel, account, message)
);
CREATE INDEX ON message_router.messages (next_timer) WHERE next_timer IS NOT NULL;
CREATE INDEX ON message_router.messages (requested_at) WHERE state = 'waiting';
CREATE INDEX ON message_router.messages (requested_at) WHERE fallback_to IS NOT NULL;
CREATE INDEX ON message_router.messages (resource, decided_at) WHERE resource IS NOT NULL;

-- Each status that counted.
CREATE TABLE message_router.statuses (
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    via text NOT NULL,
    status text NOT NULL,
    at text NOT NULL,
    error text,
    received_at bigint NOT NULL,
    PRIMARY KEY (channel, account, message, via, status)
);

-- Statuses of messages that are not decided yet, in the order of their arrival.
CREATE TABLE message_router.waiting_statuses (
    number bigint GENERATED ALWAYS AS IDENTITY,
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    via text NOT NULL,
    status text NOT NULL,
    at text NOT NULL,
    error text,
    received_at bigint NOT NULL,
    partition integer NOT NULL,
    report_id text NOT NULL,
    correlation_id text NOT NULL,
    PRIMARY KEY (channel, account, message, via, status)
);
CREATE INDEX ON message_router.waiting_statuses (received_at);

-- Usage by day, as it is booked: equal to the fold of the usage topic.
CREATE TABLE message_router.usage (
    day date NOT NULL,
    account text NOT NULL,
    channel text NOT NULL,
    country text NOT NULL,
    fee_class text NOT NULL,
    currency text NOT NULL,
    correction_of text NOT NULL DEFAULT '',
    messages bigint NOT NULL,
    amount numeric NOT NULL,
    PRIMARY KEY (day, account, channel, country, fee_class, currency, correction_of)
);

-- Records for Kafka, numbered without gaps within each partition. ``epoch`` tells this database's numbers from those
-- of another database on the same topics.
CREATE TABLE message_router.outbox_epoch (epoch text NOT NULL);
INSERT INTO message_router.outbox_epoch VALUES (gen_random_uuid()::text);
CREATE TABLE message_router.outbox_numbers (
    partition integer PRIMARY KEY,
    number bigint NOT NULL DEFAULT 0
);
CREATE TABLE message_router.outbox (
    partition integer NOT NULL,
    number bigint NOT NULL,
    topic text NOT NULL,
    key bytea,
    value bytea,
    headers text[] NOT NULL,
    PRIMARY KEY (partition, number)
);
