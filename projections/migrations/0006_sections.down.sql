-- Back to a column for each field of the sections sms and otp-scheduling.
DROP VIEW settings.channels;
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format(
            'ALTER TABLE %I.channels ADD COLUMN sms_enabled boolean NOT NULL DEFAULT false, '
            'ADD COLUMN sms_changed bigint NOT NULL DEFAULT 0, ADD COLUMN otp_enabled boolean NOT NULL DEFAULT false, '
            'ADD COLUMN otp_countries text[] NOT NULL DEFAULT ''{}'', '
            'ADD COLUMN otp_use_own_numbers boolean NOT NULL DEFAULT false, '
            'ADD COLUMN otp_changed bigint NOT NULL DEFAULT 0', built.schemaname);
        EXECUTE format(
            'UPDATE %I.channels SET sms_enabled = (sections->''sms''->''settings''->>''enabled'')::boolean, '
            'sms_changed = (sections->''sms''->>''changed'')::bigint WHERE sections ? ''sms''', built.schemaname);
        EXECUTE format(
            'UPDATE %I.channels SET '
            'otp_enabled = (sections->''otp-scheduling''->''settings''->>''enabled'')::boolean, '
            'otp_countries = ARRAY(SELECT jsonb_array_elements_text('
            'sections->''otp-scheduling''->''settings''->''countries'')), '
            'otp_use_own_numbers = (sections->''otp-scheduling''->''settings''->>''use_own_numbers'')::boolean, '
            'otp_changed = (sections->''otp-scheduling''->>''changed'')::bigint '
            'WHERE sections ? ''otp-scheduling''', built.schemaname);
        EXECUTE format(
            'ALTER TABLE %I.channels DROP COLUMN sections, ALTER COLUMN sms_enabled DROP DEFAULT, '
            'ALTER COLUMN sms_changed DROP DEFAULT, ALTER COLUMN otp_enabled DROP DEFAULT, '
            'ALTER COLUMN otp_countries DROP DEFAULT, ALTER COLUMN otp_use_own_numbers DROP DEFAULT, '
            'ALTER COLUMN otp_changed DROP DEFAULT', built.schemaname);
    END LOOP;
    EXECUTE format(
        'CREATE VIEW settings.channels AS SELECT * FROM settings_v%s.channels',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
