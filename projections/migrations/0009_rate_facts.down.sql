DROP VIEW settings.channels;
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format(
            'ALTER TABLE %I.channels DROP COLUMN home_country, DROP COLUMN international_rates_from', built.schemaname);
    END LOOP;
    EXECUTE format(
        'CREATE VIEW settings.channels AS SELECT * FROM settings_v%s.channels',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
