-- What became of one command, or of several with one correlation id, is found without the rest of a channel's history.
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'entries' AND schemaname ~ '^history_v[0-9]+$' LOOP
        EXECUTE format('CREATE INDEX entries_by_correlation ON %I.entries (channel, correlation_id)', built.schemaname);
        EXECUTE format(
            'CREATE INDEX entries_by_command ON %I.entries (channel, command_id) WHERE command_id <> correlation_id',
            built.schemaname);
    END LOOP;
END $$;
