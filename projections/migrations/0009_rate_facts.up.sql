-- Where the business is based, and from when international rates apply to it. What the platform stated earlier is in the
-- log alone: a rebuild has it.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format(
            'ALTER TABLE %I.channels ADD COLUMN home_country text, ADD COLUMN international_rates_from json',
            built.schemaname);
    END LOOP;
    EXECUTE format(
        'CREATE OR REPLACE VIEW settings.channels AS SELECT * FROM settings_v%s.channels',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
