-- Where each consumer stands: moved in the transaction of what it did, and only from where it believes itself to be.
CREATE TABLE switchboard.checkpoints (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, partition)
);
