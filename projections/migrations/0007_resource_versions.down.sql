DROP VIEW settings.channels, settings.business_systems;
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('ALTER TABLE %I.channels DROP COLUMN closed_changed', built.schemaname);
        EXECUTE format('ALTER TABLE %I.business_systems DROP COLUMN intents_changed', built.schemaname);
    END LOOP;
    EXECUTE format(
        'CREATE VIEW settings.channels AS SELECT * FROM settings_v%s.channels',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
    EXECUTE format(
        'CREATE VIEW settings.business_systems AS SELECT * FROM settings_v%s.business_systems',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
