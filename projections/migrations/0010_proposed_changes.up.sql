-- The events of a channel's proposed changes are found without the rest of its history.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'entries' AND schemaname ~ '^history_v[0-9]+$' LOOP
        EXECUTE format(
            'CREATE INDEX entries_of_proposed_changes ON %I.entries (channel, resource, version) '
            'WHERE resource LIKE ''proposed-changes/%%''', built.schemaname);
    END LOOP;
END $$;
