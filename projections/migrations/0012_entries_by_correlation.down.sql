DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'entries' AND schemaname ~ '^history_v[0-9]+$' LOOP
        EXECUTE format('DROP INDEX %1$I.entries_by_correlation, %1$I.entries_by_command', built.schemaname);
    END LOOP;
END $$;
