-- The versions of what is deleted count in the ETag of what was above it. They are not in the tables: the channel's version
-- stands for them, which refuses nobody. Every version of the tables is converted. A rebuild has the exact ones, and the
-- business systems of channels that were retired before.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('ALTER TABLE %I.channels ADD COLUMN closed_changed bigint NOT NULL DEFAULT 0', built.schemaname);
        EXECUTE format('UPDATE %I.channels SET closed_changed = version', built.schemaname);
        EXECUTE format('ALTER TABLE %I.channels ALTER COLUMN closed_changed DROP DEFAULT', built.schemaname);
        EXECUTE format(
            'ALTER TABLE %I.business_systems ADD COLUMN intents_changed bigint NOT NULL DEFAULT 0', built.schemaname);
        EXECUTE format(
            'UPDATE %I.business_systems s SET intents_changed = c.version FROM %I.channels c WHERE c.channel = s.channel',
            built.schemaname, built.schemaname);
        EXECUTE format('ALTER TABLE %I.business_systems ALTER COLUMN intents_changed DROP DEFAULT', built.schemaname);
    END LOOP;
    EXECUTE format(
        'CREATE OR REPLACE VIEW settings.channels AS SELECT * FROM settings_v%s.channels',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
    EXECUTE format(
        'CREATE OR REPLACE VIEW settings.business_systems AS SELECT * FROM settings_v%s.business_systems',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
