-- Only the first versions of the history and the catalogue go back: roll back to them before, where others are live.
DROP VIEW history.entries, history.resources, catalogue.systems, catalogue.intents;
ALTER TABLE history_v1.entries SET SCHEMA history;
ALTER TABLE history_v1.resources SET SCHEMA history;
ALTER TABLE catalogue_v1.systems SET SCHEMA catalogue;
ALTER TABLE catalogue_v1.intents SET SCHEMA catalogue;
DROP SCHEMA history_v1, catalogue_v1;
DELETE FROM switchboard.read_models WHERE model IN ('history', 'catalogue');

DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format(
            'CREATE TABLE %I.positions (partition integer PRIMARY KEY, sequence bigint NOT NULL)', built.schemaname);
        EXECUTE format(
            'INSERT INTO %I.positions SELECT partition, sequence FROM switchboard.checkpoints '
            'WHERE topic = ''switchboard.events'' AND sequence IS NOT NULL AND consumer = %L',
            built.schemaname,
            CASE WHEN built.schemaname = (
                SELECT 'settings_v' || live FROM switchboard.read_models WHERE model = 'settings')
            THEN 'switchboard.projector' ELSE 'switchboard.projector/' || built.schemaname END);
    END LOOP;
    EXECUTE format(
        'CREATE VIEW settings.positions AS SELECT * FROM settings_v%s.positions',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
