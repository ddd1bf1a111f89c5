-- What happened since the beginning, for metrics. A partition's counters are changed under its lock only, so that
-- partitions do not wait for each other.
CREATE TABLE message_router.counters (
    partition integer NOT NULL,
    name text NOT NULL,
    labels text[] NOT NULL,
    total bigint NOT NULL,
    PRIMARY KEY (partition, name, labels)
);
