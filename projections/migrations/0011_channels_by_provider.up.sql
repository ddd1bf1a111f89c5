-- A provider's channels are found without those of all others.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format(
            'CREATE INDEX channels_by_provider ON %I.channels (provider, account, channel) '
            'WHERE provider IS NOT NULL', built.schemaname);
    END LOOP;
END $$;
