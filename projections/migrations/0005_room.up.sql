-- Rows that change again and again find room on their own page: then no index changes with them.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('ALTER TABLE %I.channels SET (fillfactor = 70)', built.schemaname);
    END LOOP;
END $$;
ALTER TABLE history.resources SET (fillfactor = 70);
