-- The history and the catalogue have versions as the settings have, so that they can be rebuilt beside the live one.
CREATE SCHEMA history_v1;
ALTER TABLE history.entries SET SCHEMA history_v1;
ALTER TABLE history.resources SET SCHEMA history_v1;
CREATE VIEW history.entries AS SELECT * FROM history_v1.entries;
CREATE VIEW history.resources AS SELECT * FROM history_v1.resources;

CREATE SCHEMA catalogue_v1;
ALTER TABLE catalogue.systems SET SCHEMA catalogue_v1;
ALTER TABLE catalogue.intents SET SCHEMA catalogue_v1;
CREATE VIEW catalogue.systems AS SELECT * FROM catalogue_v1.systems;
CREATE VIEW catalogue.intents AS SELECT * FROM catalogue_v1.intents;

INSERT INTO switchboard.read_models (model, live) VALUES ('history', 1), ('catalogue', 1);

-- The checkpoints of events now have the partitionsequence: the tables of positions said it a second time.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'positions' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format(
            'UPDATE switchboard.checkpoints c SET sequence = p.sequence FROM %I.positions p '
            'WHERE c.partition = p.partition AND c.topic = ''switchboard.events'' AND c.consumer = %L',
            built.schemaname,
            CASE WHEN built.schemaname = (
                SELECT 'settings_v' || live FROM switchboard.read_models WHERE model = 'settings')
            THEN 'switchboard.projector' ELSE 'switchboard.projector/' || built.schemaname END);
    END LOOP;
    DROP VIEW settings.positions;
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'positions' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('DROP TABLE %I.positions', built.schemaname);
    END LOOP;
END $$;
