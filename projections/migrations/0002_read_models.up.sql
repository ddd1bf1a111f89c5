-- Which version of a read model readers see (live), which one a rebuild is making, and which one was live before.
-- A projector's batch holds the model's advisory lock shared while it applies; who swaps versions holds it alone.
CREATE TABLE switchboard.read_models (
    model text PRIMARY KEY,
    live integer NOT NULL,
    building integer,
    kept integer
);
INSERT INTO switchboard.read_models (model, live) VALUES ('settings', 1);

-- The partitionsequence of the last event applied of each partition: with the checkpoint it makes a cursor.
CREATE TABLE settings_v1.positions (
    partition integer PRIMARY KEY,
    sequence bigint NOT NULL
);
CREATE VIEW settings.positions AS SELECT * FROM settings_v1.positions;
