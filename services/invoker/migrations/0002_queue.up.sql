-- A lane is a kind of due work; its slots are its own, so that retries never take those of first attempts.
ALTER TABLE invoker.deliveries
    ADD COLUMN test boolean NOT NULL DEFAULT false,
    ADD COLUMN key_alone text,
    ADD COLUMN excused integer NOT NULL DEFAULT 0,
    ADD COLUMN replays integer NOT NULL DEFAULT 0,
    ADD COLUMN replayed_by text,
    ADD COLUMN claimed_at timestamptz,
    ADD COLUMN log_end bigint,
    ADD COLUMN lane text NOT NULL GENERATED ALWAYS AS (
        CASE WHEN test THEN 'test' WHEN attempts > 0 THEN 'retry' ELSE 'first' END
    ) STORED;
COMMENT ON COLUMN invoker.deliveries.excused IS 'attempts that do not count: faults of ours, and those before a replay';
COMMENT ON COLUMN invoker.deliveries.log_end IS 'offset of the last event when the request came; -1: none; NULL: not asked yet';
COMMENT ON COLUMN invoker.deliveries.key_alone IS 'a test call: the one signature that it carries';

DROP INDEX invoker.deliveries_due;
CREATE INDEX deliveries_claimable ON invoker.deliveries (channel, system, lane, due_at)
    WHERE state = 'due' AND lease IS NULL;
CREATE INDEX deliveries_leased ON invoker.deliveries (leased_until) WHERE lease IS NOT NULL;
CREATE INDEX deliveries_waiting ON invoker.deliveries (created_at) WHERE state = 'waiting';
CREATE INDEX deliveries_pending ON invoker.deliveries (created_at) WHERE state IN ('waiting', 'due', 'parked');
CREATE INDEX deliveries_expiring ON invoker.deliveries (expires_at)
    WHERE state IN ('waiting', 'due', 'parked') AND expires_at IS NOT NULL;
CREATE INDEX deliveries_ended ON invoker.deliveries (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX deliveries_of_account ON invoker.deliveries (account, id);

-- When each system's lane may have something due. Whoever makes a delivery due moves wake_at forward in the same
-- transaction, and only a claimer, who holds the row, moves it back: so claiming costs what is due, not what is kept.
CREATE TABLE invoker.lines (
    channel text NOT NULL,
    system text NOT NULL,
    lane text NOT NULL,
    wake_at timestamptz NOT NULL,
    PRIMARY KEY (channel, system, lane)
) WITH (fillfactor = 70);
CREATE INDEX lines_awake ON invoker.lines (lane, wake_at);
INSERT INTO invoker.lines
    SELECT channel, system, lane, min(due_at) FROM invoker.deliveries WHERE state = 'due' GROUP BY channel, system, lane;

-- Systems that fail; one that does not has no row.
CREATE TABLE invoker.circuits (
    channel text NOT NULL,
    system text NOT NULL,
    failures integer NOT NULL DEFAULT 0,
    openings integer NOT NULL DEFAULT 0,
    open_until timestamptz,
    probing boolean NOT NULL DEFAULT false,
    failing_since timestamptz,
    disable_asked_at timestamptz,
    PRIMARY KEY (channel, system)
);

-- What a receiver said of the signatures it was sent.
ALTER TABLE invoker.signatures
    ADD COLUMN accepted_at timestamptz,
    ADD COLUMN accepted_how text CHECK (accepted_how IN ('named', 'alone')),
    ADD COLUMN accepted_delivery text;
ALTER TABLE invoker.attempts ADD COLUMN accepted_key_id text;

ALTER TABLE invoker.outbox ADD COLUMN topic text NOT NULL DEFAULT 'switchboard.invocations';

-- Counters for the metrics, added up by every invoker once a second.
CREATE TABLE invoker.tallies (
    name text PRIMARY KEY,
    total bigint NOT NULL
);
