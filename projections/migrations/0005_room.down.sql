DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('ALTER TABLE %I.channels RESET (fillfactor)', built.schemaname);
    END LOOP;
END $$;
ALTER TABLE history.resources RESET (fillfactor);
