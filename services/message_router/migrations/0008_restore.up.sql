-- Partitions whose rows are known to have all that was published. Unlogged: after a crash, a failover or from a base
-- backup it is empty, as the database may have lost commits then. A row counts only while the server runs that it was
-- written on, and only where it was written: a restored copy has another xmin, or is in another database.
CREATE UNLOGGED TABLE message_router.verified_partitions (
    partition integer PRIMARY KEY,
    server_started timestamptz NOT NULL DEFAULT pg_postmaster_start_time(),
    database oid NOT NULL,
    written_by xid NOT NULL DEFAULT pg_current_xact_id()::xid
);

ALTER TABLE message_router.messages ADD due_at bigint;

-- What was found on the topics when a partition's rows were restored: none of it is published again.
CREATE TABLE message_router.published (
    partition integer NOT NULL,
    id text NOT NULL,
    published_at bigint NOT NULL,
    PRIMARY KEY (partition, id)
);
