DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('DROP INDEX %I.channels_by_provider', built.schemaname);
    END LOOP;
END $$;
