-- The notices of rate changes that went out: each goes out once.
CREATE TABLE message_router.rate_notices (
    channel text NOT NULL,
    country text NOT NULL,
    change text NOT NULL,
    fee_class text NOT NULL,
    changes_on date NOT NULL,
    days integer NOT NULL,
    PRIMARY KEY (channel, country, change, fee_class, changes_on, days)
);
CREATE INDEX ON message_router.rate_notices (changes_on);
CREATE INDEX ON message_router.channels (channel) WHERE scheduling_enabled AND NOT retired;
