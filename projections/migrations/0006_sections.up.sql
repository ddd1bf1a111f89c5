-- The sections of a channel's settings stand in one document: path -> {"settings": …, "changed": version of the channel}.
-- A section that never changed is left out, as a rebuild leaves it out. Every version of the tables is converted.
DROP VIEW settings.channels;
DO $$
DECLARE built record;
BEGIN
    FOR built IN SELECT schemaname FROM pg_tables WHERE tablename = 'channels' AND schemaname ~ '^settings_v[0-9]+$' LOOP
        EXECUTE format('ALTER TABLE %I.channels ADD COLUMN sections jsonb NOT NULL DEFAULT ''{}''', built.schemaname);
        EXECUTE format(
            'UPDATE %I.channels SET sections = '
            'CASE WHEN sms_changed = 0 THEN ''{}'' ELSE jsonb_build_object(''sms'', jsonb_build_object('
            '''settings'', jsonb_build_object(''enabled'', sms_enabled), ''changed'', sms_changed)) END || '
            'CASE WHEN otp_changed = 0 THEN ''{}'' ELSE jsonb_build_object(''otp-scheduling'', jsonb_build_object('
            '''settings'', jsonb_build_object(''enabled'', otp_enabled, ''countries'', to_jsonb(otp_countries), '
            '''use_own_numbers'', otp_use_own_numbers), ''changed'', otp_changed)) END '
            'WHERE sms_changed <> 0 OR otp_changed <> 0', built.schemaname);
        EXECUTE format(
            'ALTER TABLE %I.channels ALTER COLUMN sections DROP DEFAULT, DROP COLUMN sms_enabled, '
            'DROP COLUMN sms_changed, DROP COLUMN otp_enabled, DROP COLUMN otp_countries, '
            'DROP COLUMN otp_use_own_numbers, DROP COLUMN otp_changed', built.schemaname);
    END LOOP;
    EXECUTE format(
        'CREATE VIEW settings.channels AS SELECT * FROM settings_v%s.channels',
        (SELECT live FROM switchboard.read_models WHERE model = 'settings'));
END $$;
