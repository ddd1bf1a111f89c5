DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'entries' AND schemaname ~ '^history_v[0-9]+$' LOOP
        EXECUTE format('DROP INDEX %I.entries_of_proposed_changes', built.schemaname);
    END LOOP;
END $$;
