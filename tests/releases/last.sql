SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA catalogue;
CREATE SCHEMA catalogue_v1;
CREATE SCHEMA console;
CREATE SCHEMA gateway;
CREATE SCHEMA history;
CREATE SCHEMA history_v1;
CREATE SCHEMA invoker;
CREATE SCHEMA message_router;
CREATE SCHEMA settings;
CREATE SCHEMA settings_v1;
CREATE SCHEMA switchboard;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE catalogue_v1.intents (
    account text NOT NULL,
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    default_data json NOT NULL,
    json_schema json,
    templates text[] NOT NULL,
    version bigint NOT NULL
);
CREATE VIEW catalogue.intents AS
 SELECT account,
    channel,
    system,
    code,
    name,
    default_data,
    json_schema,
    templates,
    version
   FROM catalogue_v1.intents;
CREATE TABLE catalogue_v1.systems (
    channel text NOT NULL,
    system text NOT NULL,
    name text NOT NULL,
    disabled boolean NOT NULL
);
CREATE VIEW catalogue.systems AS
 SELECT channel,
    system,
    name,
    disabled
   FROM catalogue_v1.systems;
CREATE TABLE console.log_ons (
    state_sha256 bytea NOT NULL,
    issuer text NOT NULL,
    nonce text NOT NULL,
    code_verifier text NOT NULL,
    next text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE console.sessions (
    token_sha256 bytea NOT NULL,
    key_id text,
    account text,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    last_seen_at timestamp with time zone DEFAULT now() NOT NULL,
    subject text,
    claims json,
    CONSTRAINT sessions_check CHECK (((key_id IS NULL) = (subject IS NOT NULL))),
    CONSTRAINT sessions_check1 CHECK (((subject IS NULL) = (claims IS NULL)))
);
CREATE TABLE gateway.access_log (
    number bigint NOT NULL,
    "time" timestamp with time zone NOT NULL,
    type text NOT NULL,
    account text,
    channel text,
    provider text,
    record json NOT NULL,
    published boolean DEFAULT false NOT NULL
);
ALTER TABLE gateway.access_log ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME gateway.access_log_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE gateway.api_keys (
    key_id text NOT NULL,
    token_sha256 bytea NOT NULL,
    account text,
    label text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    revoked_at timestamp with time zone,
    roles text[] NOT NULL,
    scope text NOT NULL,
    provider text,
    channel text,
    networks cidr[] DEFAULT '{}'::cidr[] NOT NULL,
    created_by text,
    replaces text,
    expires_at timestamp with time zone,
    last_used_at timestamp with time zone,
    owner text,
    CONSTRAINT api_keys_check CHECK (((scope = ANY (ARRAY['account'::text, 'channel'::text])) = (account IS NOT NULL))),
    CONSTRAINT api_keys_check1 CHECK (((scope = 'channel'::text) = (channel IS NOT NULL))),
    CONSTRAINT api_keys_check2 CHECK (((scope = 'provider'::text) = (provider IS NOT NULL))),
    CONSTRAINT api_keys_roles_check CHECK ((cardinality(roles) > 0)),
    CONSTRAINT api_keys_scope_check CHECK ((scope = ANY (ARRAY['platform'::text, 'provider'::text, 'account'::text, 'channel'::text])))
);
CREATE TABLE history_v1.entries (
    topic text NOT NULL,
    partition integer NOT NULL,
    log_offset bigint NOT NULL,
    id text NOT NULL,
    "time" timestamp with time zone NOT NULL,
    account text NOT NULL,
    channel text NOT NULL,
    version bigint,
    type text NOT NULL,
    command text,
    command_id text NOT NULL,
    correlation_id text NOT NULL,
    actor text,
    source text,
    resource text,
    before json,
    after json,
    data json,
    rejection text,
    message text,
    repeated boolean NOT NULL
);
CREATE VIEW history.entries AS
 SELECT topic,
    partition,
    log_offset,
    id,
    "time",
    account,
    channel,
    version,
    type,
    command,
    command_id,
    correlation_id,
    actor,
    source,
    resource,
    before,
    after,
    data,
    rejection,
    message,
    repeated
   FROM history_v1.entries;
CREATE TABLE history_v1.resources (
    channel text NOT NULL,
    resource text NOT NULL,
    fields json NOT NULL
)
WITH (fillfactor='70');
CREATE VIEW history.resources AS
 SELECT channel,
    resource,
    fields
   FROM history_v1.resources;
CREATE TABLE invoker.attempts (
    delivery text NOT NULL,
    number integer NOT NULL,
    started_at timestamp with time zone NOT NULL,
    duration_ms integer,
    key_ids text[] NOT NULL,
    status integer,
    stage text,
    error text,
    answer bytea,
    accepted_key_id text
);
CREATE TABLE invoker.business_systems (
    channel text NOT NULL,
    system text NOT NULL,
    api_request_url text NOT NULL,
    signature_style text NOT NULL,
    disabled boolean DEFAULT false NOT NULL,
    verified_at timestamp with time zone,
    next_call_at timestamp with time zone
);
COMMENT ON COLUMN invoker.business_systems.next_call_at IS 'of an unverified system: no call before; NULL: at any time';
CREATE TABLE invoker.channels (
    channel text NOT NULL,
    account text NOT NULL,
    retired boolean DEFAULT false NOT NULL,
    version bigint NOT NULL
);
CREATE TABLE invoker.circuits (
    channel text NOT NULL,
    system text NOT NULL,
    failures integer DEFAULT 0 NOT NULL,
    openings integer DEFAULT 0 NOT NULL,
    open_until timestamp with time zone,
    probing boolean DEFAULT false NOT NULL,
    failing_since timestamp with time zone,
    disable_asked_at timestamp with time zone
);
CREATE TABLE invoker.counters (
    name text CONSTRAINT tallies_name_not_null NOT NULL,
    total bigint CONSTRAINT tallies_total_not_null NOT NULL
);
CREATE TABLE invoker.deliveries (
    id text NOT NULL,
    account text NOT NULL,
    channel text NOT NULL,
    request_id text NOT NULL,
    correlation_id text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    template text,
    request json NOT NULL,
    body bytea,
    state text NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    expires_at timestamp with time zone,
    lease uuid,
    leased_until timestamp with time zone,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    ended_at timestamp with time zone,
    key_id text,
    reason text,
    test boolean DEFAULT false NOT NULL,
    only_key_id text,
    uncounted integer DEFAULT 0 CONSTRAINT deliveries_excused_not_null NOT NULL,
    replays integer DEFAULT 0 NOT NULL,
    replayed_by text,
    claimed_at timestamp with time zone,
    log_end bigint,
    lane text GENERATED ALWAYS AS (
CASE
    WHEN test THEN 'test'::text
    WHEN (attempts > 0) THEN 'retry'::text
    ELSE 'first'::text
END) STORED NOT NULL,
    attempts_before_replay integer DEFAULT 0 CONSTRAINT deliveries_before_replay_not_null NOT NULL,
    stored_bytes integer DEFAULT 0 NOT NULL,
    CONSTRAINT deliveries_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'due'::text, 'parked'::text, 'delivered'::text, 'dead'::text, 'refused'::text])))
);
COMMENT ON COLUMN invoker.deliveries.request IS 'as it was asked for; where its data is true, the body has the data, its last field';
COMMENT ON COLUMN invoker.deliveries.only_key_id IS 'a test call: the one signature that it carries';
COMMENT ON COLUMN invoker.deliveries.uncounted IS 'attempts that do not count: those that ended by our own fault, and those before the last replay';
COMMENT ON COLUMN invoker.deliveries.log_end IS 'offset of the last event when the request came; -1: none; NULL: not asked yet';
COMMENT ON COLUMN invoker.deliveries.attempts_before_replay IS 'attempts before the last replay; uncounted includes them';
CREATE TABLE invoker.intents (
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    default_data json NOT NULL,
    schema json
);
CREATE TABLE invoker.outbox (
    id bigint NOT NULL,
    value bytea,
    topic text NOT NULL,
    key bytea,
    partition integer,
    headers text[] DEFAULT '{}'::text[] NOT NULL,
    reserved_until timestamp with time zone DEFAULT now() CONSTRAINT outbox_held_until_not_null NOT NULL
);
ALTER TABLE invoker.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME invoker.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE invoker.queues (
    channel text CONSTRAINT lines_channel_not_null NOT NULL,
    system text CONSTRAINT lines_system_not_null NOT NULL,
    lane text CONSTRAINT lines_lane_not_null NOT NULL,
    wake_at timestamp with time zone CONSTRAINT lines_wake_at_not_null NOT NULL
)
WITH (fillfactor='70');
CREATE TABLE invoker.secrets (
    record_key text NOT NULL,
    encrypted bytea NOT NULL
);
CREATE TABLE invoker.signatures (
    channel text NOT NULL,
    system text NOT NULL,
    key_id text NOT NULL,
    issued_at_version bigint CONSTRAINT signatures_drawn_not_null NOT NULL,
    valid_until timestamp with time zone,
    accepted_at timestamp with time zone,
    accepted_how text,
    accepted_delivery text,
    CONSTRAINT signatures_accepted_how_check CHECK ((accepted_how = ANY (ARRAY['named'::text, 'alone'::text])))
);
CREATE TABLE invoker.stored_bytes (
    account text NOT NULL,
    bytes bigint NOT NULL
);
CREATE TABLE invoker.stored_bytes_changes (
    account text NOT NULL,
    bytes bigint NOT NULL
);
CREATE TABLE invoker.test_calls (
    account text NOT NULL,
    channel text NOT NULL,
    request_id text NOT NULL,
    requested_at timestamp with time zone NOT NULL
);
CREATE TABLE message_router.channels (
    channel text NOT NULL,
    account text NOT NULL,
    version bigint NOT NULL,
    channel_type text NOT NULL,
    retired boolean DEFAULT false NOT NULL,
    sms_enabled boolean DEFAULT false NOT NULL,
    scheduling_enabled boolean DEFAULT false NOT NULL,
    countries text[] DEFAULT '{}'::text[] NOT NULL,
    use_own_numbers boolean DEFAULT false NOT NULL,
    home_country text,
    international_rates_from json DEFAULT '{}'::json NOT NULL,
    spend_guard json
);
CREATE TABLE message_router.counters (
    partition integer NOT NULL,
    name text NOT NULL,
    labels text[] NOT NULL,
    total bigint NOT NULL
);
CREATE TABLE message_router.daily_messages (
    channel text NOT NULL,
    country text NOT NULL,
    day date NOT NULL,
    messages bigint NOT NULL
);
CREATE TABLE message_router.messages (
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    partition integer NOT NULL,
    digest text NOT NULL,
    correlation_id text NOT NULL,
    state text NOT NULL,
    requested_at bigint NOT NULL,
    log_end bigint,
    asked_version bigint,
    category text NOT NULL,
    country text,
    country_source text NOT NULL,
    recipient_hash text NOT NULL,
    fallback_on text[],
    fallback_wait_seconds integer,
    fallback_to bytea,
    decided_at bigint,
    settings_version bigint,
    decision json,
    resource text,
    reservation text DEFAULT 'none'::text NOT NULL,
    reserved_until bigint,
    posted_late boolean DEFAULT false NOT NULL,
    fallback text DEFAULT 'none'::text NOT NULL,
    fires_at bigint,
    seen text[] DEFAULT '{}'::text[] NOT NULL,
    double_charge_told boolean DEFAULT false NOT NULL,
    next_timer bigint,
    refusal json,
    CONSTRAINT messages_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'routed'::text, 'refused'::text])))
);
CREATE TABLE message_router.notices (
    number bigint NOT NULL,
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    type text NOT NULL,
    told_at bigint NOT NULL,
    data json NOT NULL
);
ALTER TABLE message_router.notices ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME message_router.notices_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE message_router.outbox (
    partition integer NOT NULL,
    number bigint NOT NULL,
    topic text NOT NULL,
    key bytea,
    value bytea,
    headers text[] NOT NULL
);
CREATE TABLE message_router.outbox_numbers (
    partition integer NOT NULL,
    number bigint DEFAULT 0 NOT NULL,
    epoch text DEFAULT (gen_random_uuid())::text NOT NULL
);
CREATE TABLE message_router.rate_books (
    version bigint NOT NULL,
    book json NOT NULL
);
CREATE TABLE message_router.rate_notices (
    channel text NOT NULL,
    country text NOT NULL,
    change text NOT NULL,
    fee_class text NOT NULL,
    changes_on date NOT NULL,
    days integer NOT NULL
);
CREATE TABLE message_router.resources (
    resource text NOT NULL,
    country text NOT NULL,
    sender text NOT NULL,
    units bigint NOT NULL,
    as_of bigint NOT NULL,
    valid_until bigint NOT NULL,
    withdrawn boolean DEFAULT false NOT NULL,
    taken bigint DEFAULT 0 NOT NULL
);
CREATE TABLE message_router.statuses (
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    via text NOT NULL,
    status text NOT NULL,
    at text NOT NULL,
    error text,
    received_at bigint NOT NULL
);
CREATE TABLE message_router.usage (
    day date NOT NULL,
    account text NOT NULL,
    channel text NOT NULL,
    country text NOT NULL,
    fee_class text NOT NULL,
    currency text NOT NULL,
    correction_of text DEFAULT ''::text NOT NULL,
    messages bigint NOT NULL,
    amount numeric NOT NULL
);
CREATE TABLE message_router.waiting_statuses (
    number bigint NOT NULL,
    channel text NOT NULL,
    account text NOT NULL,
    message text NOT NULL,
    via text NOT NULL,
    status text NOT NULL,
    at text NOT NULL,
    error text,
    received_at bigint NOT NULL,
    partition integer NOT NULL,
    report_id text NOT NULL,
    correlation_id text NOT NULL
);
ALTER TABLE message_router.waiting_statuses ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME message_router.waiting_statuses_number_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE settings_v1.business_systems (
    channel text NOT NULL,
    system text NOT NULL,
    name text NOT NULL,
    api_request_url text NOT NULL,
    remarks text NOT NULL,
    signature_style text NOT NULL,
    disabled boolean NOT NULL,
    changed bigint NOT NULL,
    signature_changed bigint NOT NULL,
    signatures json NOT NULL,
    intents_changed bigint NOT NULL
);
CREATE VIEW settings.business_systems AS
 SELECT channel,
    system,
    name,
    api_request_url,
    remarks,
    signature_style,
    disabled,
    changed,
    signature_changed,
    signatures,
    intents_changed
   FROM settings_v1.business_systems;
CREATE TABLE settings_v1.channels (
    channel text NOT NULL,
    account text NOT NULL,
    channel_type text NOT NULL,
    name text NOT NULL,
    provider text,
    retired boolean NOT NULL,
    version bigint NOT NULL,
    channel_changed bigint NOT NULL,
    sections jsonb NOT NULL,
    closed_changed bigint NOT NULL,
    home_country text,
    international_rates_from json
)
WITH (fillfactor='70');
CREATE VIEW settings.channels AS
 SELECT channel,
    account,
    channel_type,
    name,
    provider,
    retired,
    version,
    channel_changed,
    sections,
    closed_changed,
    home_country,
    international_rates_from
   FROM settings_v1.channels;
CREATE TABLE settings_v1.intents (
    channel text NOT NULL,
    system text NOT NULL,
    code text NOT NULL,
    name text NOT NULL,
    default_data json NOT NULL,
    json_schema json,
    templates text[] NOT NULL,
    changed bigint NOT NULL
);
CREATE VIEW settings.intents AS
 SELECT channel,
    system,
    code,
    name,
    default_data,
    json_schema,
    templates,
    changed
   FROM settings_v1.intents;
CREATE TABLE switchboard.checkpoints (
    consumer text NOT NULL,
    topic text NOT NULL,
    partition integer NOT NULL,
    next_offset bigint NOT NULL,
    moved_at timestamp with time zone DEFAULT now() NOT NULL,
    sequence bigint
);
CREATE TABLE switchboard.migrations (
    owner text NOT NULL,
    name text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE switchboard.read_models (
    model text NOT NULL,
    live integer NOT NULL,
    building integer,
    kept integer
);
INSERT INTO catalogue_v1.intents VALUES ('acme', 'demo-whatsapp', 'crm', 'ORDER_STATUS', 'Order status', '{"order":"1001"}', NULL, '{}', 4);
INSERT INTO catalogue_v1.systems VALUES ('demo-whatsapp', 'crm', 'Demo CRM', false);
INSERT INTO gateway.access_log OVERRIDING SYSTEM VALUE VALUES (1, '2026-11-28 01:17:43.197+00', 'ApiKeyCreated', 'acme', NULL, NULL, '{"specversion":"1.0","id":"01a21fba-c39d-71bc-875a-91a3cf725ca5","type":"ApiKeyCreated","source":"gateway","time":"2026-11-28T01:17:43.197Z","accountid":"acme","datacontenttype":"application/json","data":{"key_id":"5b9ed7da","label":"made by up","roles":["administrator","approver","auditor","editor","signature-keeper","viewer"],"scope":"account","account":"acme","networks":[]}}', true);
INSERT INTO gateway.access_log OVERRIDING SYSTEM VALUE VALUES (2, '2026-11-28 01:17:43.243+00', 'ApiKeyCreated', NULL, NULL, NULL, '{"specversion":"1.0","id":"01a21fba-c3cb-7746-ba84-7cb52a07b5f2","type":"ApiKeyCreated","source":"gateway","time":"2026-11-28T01:17:43.243Z","datacontenttype":"application/json","data":{"key_id":"c1a16535","label":"made by up","roles":["administrator","approver","auditor","editor","signature-keeper","viewer"],"scope":"platform","networks":[]}}', true);
INSERT INTO gateway.api_keys VALUES ('5b9ed7da', '\xccb61b45c2c99501b9c598203b7218c143c8b3dff2bbb5fd9b2f2182f59422cf', 'acme', 'made by up', '2026-11-28 01:17:43.077489+00', NULL, '{administrator,approver,auditor,editor,signature-keeper,viewer}', 'account', NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL);
INSERT INTO gateway.api_keys VALUES ('c1a16535', '\x5963c347cf1a18538ca109a78b71d5d1b1e56144547b5f0842e44f593283f6c3', NULL, 'made by up', '2026-11-28 01:17:43.228657+00', NULL, '{administrator,approver,auditor,editor,signature-keeper,viewer}', 'platform', NULL, NULL, '{}', NULL, NULL, NULL, NULL, NULL);
INSERT INTO history_v1.entries VALUES ('events', 1, 2, '01a21fba-c721-7dd0-bd2b-14f4fa79b568', '2026-11-28 01:17:44.097+00', 'acme', 'demo-whatsapp', 1, 'ChannelRegistered', 'RegisterChannel', 'demo:RegisterChannel', 'demo:RegisterChannel', 'demo', 'switchboard-demo', 'channel', '{}', '{"approvals/required_for":[],"channel/home_country":null,"channel/international_rates_from":null,"channel/name":"Demo shop","channel/provider":null,"channel/retired":false,"otp-scheduling":{"enabled":false,"countries":[],"use_own_numbers":false},"sms/enabled":false,"spend-guard":{"mode":"off","max_rate":null,"daily_messages_per_country":null}}', '{"channel_type":"whatsapp","name":"Demo shop","enterprise_authenticated":true,"provider":null}', NULL, NULL, false);
INSERT INTO history_v1.entries VALUES ('events', 1, 4, '01a21fba-c852-7983-a8f0-3aa2793b72be', '2026-11-28 01:17:44.402+00', 'acme', 'demo-whatsapp', 2, 'SignatureRefreshed', 'RefreshSignature', 'demo:RefreshSignature', 'demo:RefreshSignature', 'demo', 'switchboard-demo', 'business-systems/crm/signature', '{}', '{}', '{"system":"crm","key_id":"key-1","fingerprint":"c2897b2f549359ad","api_request_url":"http://127.0.0.1:29718/chat-app","replaced":[],"dropped_draft":null}', NULL, NULL, false);
INSERT INTO history_v1.entries VALUES ('events', 1, 6, '01a21fba-c981-7556-b3b5-85631783865d', '2026-11-28 01:17:44.705+00', 'acme', 'demo-whatsapp', 3, 'BusinessSystemOpened', 'OpenBusinessSystem', 'demo:OpenBusinessSystem', 'demo:OpenBusinessSystem', 'demo', 'switchboard-demo', 'business-systems/crm', '{}', '{"business-systems/crm":true,"business-systems/crm/api_request_url":"http://127.0.0.1:29718/chat-app","business-systems/crm/disabled":false,"business-systems/crm/name":"Demo CRM","business-systems/crm/remarks":"The demo''s own","business-systems/crm/signature_style":"standard-webhooks","business-systems/crm/signatures":["key-1"]}', '{"system":"crm","name":"Demo CRM","api_request_url":"http://127.0.0.1:29718/chat-app","remarks":"The demo''s own","signature_style":"standard-webhooks","signature":{"key_id":"key-1","fingerprint":"c2897b2f549359ad","issued_at":"2026-11-28T01:17:44.402Z"}}', NULL, NULL, false);
INSERT INTO history_v1.entries VALUES ('events', 1, 8, '01a21fba-cacb-7b88-83cc-def9aa911e84', '2026-11-28 01:17:45.035+00', 'acme', 'demo-whatsapp', 4, 'IntentAdded', 'AddIntent', 'demo:AddIntent', 'demo:AddIntent', 'demo', 'switchboard-demo', 'business-systems/crm/intents/ORDER_STATUS', '{}', '{"business-systems/crm/intents/ORDER_STATUS":true,"business-systems/crm/intents/ORDER_STATUS/default_data":{"order":"1001"},"business-systems/crm/intents/ORDER_STATUS/name":"Order status","business-systems/crm/intents/ORDER_STATUS/schema":null,"business-systems/crm/intents/ORDER_STATUS/templates":[]}', '{"system":"crm","code":"ORDER_STATUS","name":"Order status","default_data":{"order":"1001"},"schema":null}', NULL, NULL, false);
INSERT INTO history_v1.entries VALUES ('events', 1, 10, '01a21fba-cb27-7658-baea-afa49a0031ea', '2026-11-28 01:17:45.127+00', 'acme', 'demo-whatsapp', 5, 'SmsActivated', 'ToggleSms', 'demo:ToggleSms', 'demo:ToggleSms', 'demo', 'switchboard-demo', 'sms', '{"sms/enabled":false}', '{"sms/enabled":true}', '{}', NULL, NULL, false);
INSERT INTO history_v1.entries VALUES ('events', 1, 12, '01a21fba-cbba-786e-bcdf-c56abe9ca2a8', '2026-11-28 01:17:45.274+00', 'acme', 'demo-whatsapp', 6, 'OtpSchedulingSaved', 'SaveOtpScheduling', 'demo:SaveOtpScheduling', 'demo:SaveOtpScheduling', 'demo', 'switchboard-demo', 'otp-scheduling', '{"otp-scheduling":{"enabled":false,"countries":[],"use_own_numbers":false}}', '{"otp-scheduling":{"enabled":true,"countries":["ID","IN"],"use_own_numbers":false}}', '{"enabled":true,"countries":["ID","IN"],"use_own_numbers":false,"international_rates_acknowledged":false}', NULL, NULL, false);
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'channel', '{"name":"Demo shop","provider":null,"retired":false,"home_country":null,"international_rates_from":null}');
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'spend-guard', '{"mode":"off","max_rate":null,"daily_messages_per_country":null}');
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'approvals', '{"required_for":[]}');
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'business-systems/crm', '{"name":"Demo CRM","api_request_url":"http://127.0.0.1:29718/chat-app","remarks":"The demo''s own","signature_style":"standard-webhooks","disabled":false,"signatures":[{"key_id":"key-1"}]}');
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'business-systems/crm/intents/ORDER_STATUS', '{"name":"Order status","default_data":{"order":"1001"},"schema":null,"templates":[]}');
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'sms', '{"enabled":true}');
INSERT INTO history_v1.resources VALUES ('demo-whatsapp', 'otp-scheduling', '{"enabled":true,"countries":["ID","IN"],"use_own_numbers":false}');
INSERT INTO invoker.attempts VALUES ('01a21fba-cc4b-7b1e-ac11-674a37afdd7a', 1, '2026-11-28 01:17:45.571872+00', 96, '{key-1}', 200, NULL, NULL, '\x7b22737461747573223a2273686970706564222c226f72646572223a2231303031227d', 'key-1');
INSERT INTO invoker.business_systems VALUES ('demo-whatsapp', 'crm', 'http://127.0.0.1:29718/chat-app', 'standard-webhooks', false, '2026-11-28 01:17:45.689095+00', NULL);
INSERT INTO invoker.channels VALUES ('demo-whatsapp', 'acme', false, 6);
INSERT INTO invoker.counters VALUES ('delivered', 1);
INSERT INTO invoker.deliveries VALUES ('01a21fba-cc4b-7b1e-ac11-674a37afdd7a', 'acme', 'demo-whatsapp', 'demo:invoke', 'demo:invoke', 'crm', 'ORDER_STATUS', NULL, '{"system":"crm","code":"ORDER_STATUS","settings_version":6}', '\x7b2274797065223a224f524445525f535441545553222c2274696d657374616d70223a22323032362d31312d32385430313a31373a34352e3436315a222c226163636f756e74223a2261636d65222c226368616e6e656c223a2264656d6f2d7768617473617070222c22627573696e6573735f73797374656d223a2263726d222c2274656d706c617465223a6e756c6c2c2264617461223a7b226f72646572223a2231303031227d7d', 'delivered', 1, '2026-11-28 01:17:45.448154+00', NULL, NULL, NULL, '2026-11-28 01:17:45.448154+00', '2026-11-28 01:17:45.689095+00', 'key-1', NULL, false, NULL, 0, 0, NULL, '2026-11-28 01:17:45.544828+00', NULL, DEFAULT, 0, 263);
INSERT INTO invoker.intents VALUES ('demo-whatsapp', 'crm', 'ORDER_STATUS', '{"order":"1001"}', NULL);
INSERT INTO invoker.queues VALUES ('demo-whatsapp', 'crm', 'first', 'infinity');
INSERT INTO invoker.secrets VALUES ('demo-whatsapp/crm/key-1', '\x7b2276657273696f6e223a312c226b656b223a226b31222c226e6f6e6365223a22517a414c672b567937683536382b4d39222c2263697068657274657874223a22722f542b326d412f4a774c6d4368775633616e377955654c4354596d344d303478684b62576176316b4775446b55375578674a7055744e7559573243452f4241227d');
INSERT INTO invoker.signatures VALUES ('demo-whatsapp', 'crm', 'key-1', 3, NULL, '2026-11-28 01:17:45.689095+00', 'alone', '01a21fba-cc4b-7b1e-ac11-674a37afdd7a');
INSERT INTO invoker.stored_bytes VALUES ('acme', 263);
INSERT INTO message_router.channels VALUES ('demo-whatsapp', 'acme', 6, 'whatsapp', false, true, true, '{ID,IN}', false, NULL, '{}', NULL);
INSERT INTO message_router.counters VALUES (1, 'decisions', '{scheduled,ResourceAvailable}', 1);
INSERT INTO message_router.counters VALUES (1, 'decisions', '{failed,NoResources}', 1);
INSERT INTO message_router.counters VALUES (1, 'decisions', '{not_applicable,CountryNotChosen}', 1);
INSERT INTO message_router.counters VALUES (1, 'charges', '{IN}', 1);
INSERT INTO message_router.counters VALUES (1, 'reservations', '{posted}', 1);
INSERT INTO message_router.daily_messages VALUES ('demo-whatsapp', 'IN', '2026-11-28', 1);
INSERT INTO message_router.daily_messages VALUES ('demo-whatsapp', 'SG', '2026-11-28', 1);
INSERT INTO message_router.messages VALUES ('demo-whatsapp', 'acme', 'demo-otp-indonesia', 1, '9f50104ce4c30a7408096c3f1d07d7378d1b08094ab4482ae5466b629e84c4cc', '01a21fba-d230-7abe-bfff-fa4add3a6bf5', 'routed', 1795828667014, NULL, NULL, 'authentication', 'ID', 'phone-number', 'e512e32376984ab5bc91e23ea9aa3b2e476374717ff710cb166350bcda13e719', NULL, NULL, NULL, 1795828667014, 6, '{"message":"demo-otp-indonesia","route":"failed","rule":"NoResources","sentence":"ID is chosen, but it has no scheduling resources, and Use Own Numbers is off, so the sending fails.","category":"authentication","country":"ID","country_source":"phone-number","recipient_hash":"e512e32376984ab5bc91e23ea9aa3b2e476374717ff710cb166350bcda13e719","resource":null,"sender":null,"fee_class":null,"rate":null,"international":false,"settings_version":6,"rate_book":null,"reserved_until":null,"guard":null,"pool":{"resources":{}},"sent_today":null,"decided_at":"2026-11-28T01:17:47.014Z"}', NULL, 'none', NULL, false, 'none', NULL, '{}', false, NULL, NULL);
INSERT INTO message_router.messages VALUES ('demo-whatsapp', 'acme', 'demo-otp-singapore', 1, '8c819a4b4797fa4b285bcf4b0417c8c775269d09a95d14153a8cb21323069488', '01a21fba-d2ac-7489-ab3e-dc82da67f015', 'routed', 1795828667080, NULL, NULL, 'authentication', 'SG', 'phone-number', '281c155312be9f9145476301aa95ffb55bd9bda9eb9c867e8e58806ef7fbb2d3', NULL, NULL, NULL, 1795828667080, 6, '{"message":"demo-otp-singapore","route":"not_applicable","rule":"CountryNotChosen","sentence":"OTP delivery scheduling is not chosen for SG, so the message is sent normally, from the channel''s own numbers.","category":"authentication","country":"SG","country_source":"phone-number","recipient_hash":"281c155312be9f9145476301aa95ffb55bd9bda9eb9c867e8e58806ef7fbb2d3","resource":null,"sender":null,"fee_class":"authentication","rate":null,"international":false,"settings_version":6,"rate_book":null,"reserved_until":null,"guard":null,"pool":null,"sent_today":null,"decided_at":"2026-11-28T01:17:47.080Z"}', NULL, 'none', NULL, false, 'none', NULL, '{}', false, NULL, NULL);
INSERT INTO message_router.messages VALUES ('demo-whatsapp', 'acme', 'demo-otp-india', 1, 'e4a7dfe8c1040ede9eb554a0c8a05f22871affa65eae5a5a438342c5220455ed', '01a21fba-d16a-728c-8a2a-385b6f6c257b', 'routed', 1795828666844, NULL, NULL, 'authentication', 'IN', 'phone-number', '195eebc83ff9f7165a9b500e41006c59b60834d219e4c3f0ccb7ce9eeeabe336', NULL, NULL, NULL, 1795828666844, 6, '{"message":"demo-otp-india","route":"scheduled","rule":"ResourceAvailable","sentence":"IN is chosen, and resource demo-in has a unit left, so the message is sent with OTP delivery scheduling.","category":"authentication","country":"IN","country_source":"phone-number","recipient_hash":"195eebc83ff9f7165a9b500e41006c59b60834d219e4c3f0ccb7ce9eeeabe336","resource":"demo-in","sender":"+911234567890","fee_class":"scheduled","rate":null,"international":false,"settings_version":6,"rate_book":null,"reserved_until":"2026-11-28T01:27:46.844Z","guard":null,"pool":{"resources":{"demo-in":{"available":1000,"stale":false,"sender":"+911234567890","as_of":"2026-11-28T01:17:46.124Z"}}},"sent_today":null,"decided_at":"2026-11-28T01:17:46.844Z"}', 'demo-in', 'posted', 1795829266844, false, 'none', NULL, '{chat/delivered}', false, NULL, NULL);
INSERT INTO message_router.notices OVERRIDING SYSTEM VALUE VALUES (1, 'demo-whatsapp', 'acme', 'demo-otp-india', 'ReservationSettled', 1795828667210, '{"message":"demo-otp-india","resource":"demo-in","ended":"posted","late":false}');
INSERT INTO message_router.notices OVERRIDING SYSTEM VALUE VALUES (2, 'demo-whatsapp', 'acme', 'demo-otp-india', 'MessageCharged', 1795828667210, '{"message":"demo-otp-india","country":"IN","resource":"demo-in","fee_class":"scheduled","amount":null,"currency":null,"rate_book":null,"settings_version":6,"posted_at":"2026-11-28T01:17:47.168Z","day":"2026-11-28","booked_on":"2026-11-28","late":false}');
INSERT INTO message_router.outbox_numbers VALUES (5, 0, 'a928f59b-7bed-4a87-a29e-e2005fea2021');
INSERT INTO message_router.outbox_numbers VALUES (2, 0, 'a7744938-638f-40a4-8e60-ec45b7954a50');
INSERT INTO message_router.outbox_numbers VALUES (4, 0, 'e1f77d77-bbfc-463a-988d-fbf9d2aea454');
INSERT INTO message_router.outbox_numbers VALUES (7, 0, '4f3e9ca8-d835-4c67-8458-e1806354345a');
INSERT INTO message_router.outbox_numbers VALUES (3, 0, '1c9347b2-ad4d-4955-a126-d98354f50f85');
INSERT INTO message_router.outbox_numbers VALUES (6, 0, '4985751c-b6d6-439d-9f16-ed90a76cec7d');
INSERT INTO message_router.outbox_numbers VALUES (0, 0, '1eddcade-fafe-4103-827d-98bf844d1c61');
INSERT INTO message_router.outbox_numbers VALUES (1, 5, '1935756a-8e91-462d-afb3-76903e2c6cc8');
INSERT INTO message_router.resources VALUES ('demo-in', 'IN', '+911234567890', 1000, 1795828666124, 1796433466124, false, 1);
INSERT INTO message_router.statuses VALUES ('demo-whatsapp', 'acme', 'demo-otp-india', 'chat', 'delivered', '2026-11-28T01:17:47.168Z', NULL, 1795828667210);
INSERT INTO message_router.usage VALUES ('2026-11-28', 'acme', 'demo-whatsapp', 'IN', 'scheduled', '', '', 1, 0);
INSERT INTO settings_v1.business_systems VALUES ('demo-whatsapp', 'crm', 'Demo CRM', 'http://127.0.0.1:29718/chat-app', 'The demo''s own', 'standard-webhooks', false, 3, 3, '[{"key_id":"key-1","fingerprint":"c2897b2f549359ad","issued_at":"2026-11-28T01:17:44.402Z","valid_until":null}]', 4);
INSERT INTO settings_v1.channels VALUES ('demo-whatsapp', 'acme', 'whatsapp', 'Demo shop', NULL, false, 6, 1, '{"sms": {"changed": 5, "settings": {"enabled": true}}, "otp-scheduling": {"changed": 6, "settings": {"enabled": true, "countries": ["ID", "IN"], "use_own_numbers": false}}}', 2, NULL, NULL);
INSERT INTO settings_v1.intents VALUES ('demo-whatsapp', 'crm', 'ORDER_STATUS', 'Order status', '{"order":"1001"}', NULL, '{}', 4);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.invoker', 'switchboard.signatures', 1, 3, '2026-11-28 01:17:44.675766+00', NULL);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.message-router', 'switchboard.events', 1, 13, '2026-11-28 01:17:45.394734+00', 6);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.invoker', 'switchboard.events', 1, 13, '2026-11-28 01:17:45.414672+00', 6);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.projector-catalogue', 'switchboard.events', 1, 13, '2026-11-28 01:17:45.416449+00', 6);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.projector', 'switchboard.events', 1, 13, '2026-11-28 01:17:45.425173+00', 6);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.projector-history', 'switchboard.events', 1, 13, '2026-11-28 01:17:45.46487+00', 6);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.projector-history', 'switchboard.outcomes', 1, 13, '2026-11-28 01:17:45.472959+00', NULL);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.invoker', 'switchboard.invocation-requests', 1, 1, '2026-11-28 01:17:45.448154+00', NULL);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.message-router', 'switchboard.scheduling-resources', 7, 1, '2026-11-28 01:17:46.180735+00', NULL);
INSERT INTO switchboard.checkpoints VALUES ('switchboard.message-router', 'switchboard.message-requests', 1, 4, '2026-11-28 01:17:47.203481+00', NULL);
INSERT INTO switchboard.migrations VALUES ('checkpoints', '0001_checkpoints', '2026-11-28 01:17:13.866329+00');
INSERT INTO switchboard.migrations VALUES ('checkpoints', '0002_sequences', '2026-11-28 01:17:13.866329+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0001_settings', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0002_read_models', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0003_history', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0004_catalogue', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0005_room', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0006_sections', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0007_resource_versions', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0008_versions_of_all', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0009_rate_facts', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0010_proposed_changes', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('projections', '0011_channels_by_provider', '2026-11-28 01:17:14.062622+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0001_invoker', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0002_queue', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0003_content', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0004_lean', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0005_held', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0006_data_once', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0007_names', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0008_verified', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0009_stored_bytes', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('invoker', '0010_test_calls', '2026-11-28 01:17:14.544975+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0001_message_router', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0002_partitions', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0003_timeline', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0004_spend_guard', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0005_counters', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0006_rate_notices', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('message_router', '0007_retention', '2026-11-28 01:17:14.969285+00');
INSERT INTO switchboard.migrations VALUES ('gateway', '0001_api_keys', '2026-11-28 01:17:15.382754+00');
INSERT INTO switchboard.migrations VALUES ('gateway', '0002_roles_and_scopes', '2026-11-28 01:17:15.382754+00');
INSERT INTO switchboard.migrations VALUES ('gateway', '0003_access_log', '2026-11-28 01:17:15.382754+00');
INSERT INTO switchboard.migrations VALUES ('gateway', '0004_owner', '2026-11-28 01:17:15.382754+00');
INSERT INTO switchboard.migrations VALUES ('console', '0001_sessions', '2026-11-28 01:17:15.564674+00');
INSERT INTO switchboard.migrations VALUES ('console', '0002_issuers', '2026-11-28 01:17:15.564674+00');
INSERT INTO switchboard.read_models VALUES ('settings', 1, NULL, NULL);
INSERT INTO switchboard.read_models VALUES ('history', 1, NULL, NULL);
INSERT INTO switchboard.read_models VALUES ('catalogue', 1, NULL, NULL);
SELECT pg_catalog.setval('gateway.access_log_number_seq', 2, true);
SELECT pg_catalog.setval('invoker.outbox_id_seq', 1, true);
SELECT pg_catalog.setval('message_router.notices_number_seq', 2, true);
SELECT pg_catalog.setval('message_router.waiting_statuses_number_seq', 1, false);
ALTER TABLE ONLY catalogue_v1.intents
    ADD CONSTRAINT intents_pkey PRIMARY KEY (channel, system, code);
ALTER TABLE ONLY catalogue_v1.systems
    ADD CONSTRAINT systems_pkey PRIMARY KEY (channel, system);
ALTER TABLE ONLY console.log_ons
    ADD CONSTRAINT log_ons_pkey PRIMARY KEY (state_sha256);
ALTER TABLE ONLY console.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (token_sha256);
ALTER TABLE ONLY gateway.access_log
    ADD CONSTRAINT access_log_pkey PRIMARY KEY (number);
ALTER TABLE ONLY gateway.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);
ALTER TABLE ONLY history_v1.entries
    ADD CONSTRAINT entries_pkey PRIMARY KEY (topic, partition, log_offset);
ALTER TABLE ONLY history_v1.resources
    ADD CONSTRAINT resources_pkey PRIMARY KEY (channel, resource);
ALTER TABLE ONLY invoker.attempts
    ADD CONSTRAINT attempts_pkey PRIMARY KEY (delivery, number);
ALTER TABLE ONLY invoker.business_systems
    ADD CONSTRAINT business_systems_pkey PRIMARY KEY (channel, system);
ALTER TABLE ONLY invoker.channels
    ADD CONSTRAINT channels_pkey PRIMARY KEY (channel);
ALTER TABLE ONLY invoker.circuits
    ADD CONSTRAINT circuits_pkey PRIMARY KEY (channel, system);
ALTER TABLE ONLY invoker.counters
    ADD CONSTRAINT counters_pkey PRIMARY KEY (name);
ALTER TABLE ONLY invoker.deliveries
    ADD CONSTRAINT deliveries_account_channel_request_id_key UNIQUE (account, channel, request_id);
ALTER TABLE ONLY invoker.deliveries
    ADD CONSTRAINT deliveries_pkey PRIMARY KEY (id);
ALTER TABLE ONLY invoker.intents
    ADD CONSTRAINT intents_pkey PRIMARY KEY (channel, system, code);
ALTER TABLE ONLY invoker.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY invoker.queues
    ADD CONSTRAINT queues_pkey PRIMARY KEY (channel, system, lane);
ALTER TABLE ONLY invoker.secrets
    ADD CONSTRAINT secrets_pkey PRIMARY KEY (record_key);
ALTER TABLE ONLY invoker.signatures
    ADD CONSTRAINT signatures_pkey PRIMARY KEY (channel, system, key_id);
ALTER TABLE ONLY invoker.stored_bytes
    ADD CONSTRAINT stored_bytes_pkey PRIMARY KEY (account);
ALTER TABLE ONLY invoker.test_calls
    ADD CONSTRAINT test_calls_pkey PRIMARY KEY (account, channel, request_id);
ALTER TABLE ONLY message_router.channels
    ADD CONSTRAINT channels_pkey PRIMARY KEY (channel);
ALTER TABLE ONLY message_router.counters
    ADD CONSTRAINT counters_pkey PRIMARY KEY (partition, name, labels);
ALTER TABLE ONLY message_router.daily_messages
    ADD CONSTRAINT daily_messages_pkey PRIMARY KEY (channel, country);
ALTER TABLE ONLY message_router.messages
    ADD CONSTRAINT messages_pkey PRIMARY KEY (channel, account, message);
ALTER TABLE ONLY message_router.notices
    ADD CONSTRAINT notices_pkey PRIMARY KEY (channel, account, message, number);
ALTER TABLE ONLY message_router.outbox_numbers
    ADD CONSTRAINT outbox_numbers_pkey PRIMARY KEY (partition);
ALTER TABLE ONLY message_router.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (partition, number);
ALTER TABLE ONLY message_router.rate_books
    ADD CONSTRAINT rate_books_pkey PRIMARY KEY (version);
ALTER TABLE ONLY message_router.rate_notices
    ADD CONSTRAINT rate_notices_pkey PRIMARY KEY (channel, country, change, fee_class, changes_on, days);
ALTER TABLE ONLY message_router.resources
    ADD CONSTRAINT resources_pkey PRIMARY KEY (resource);
ALTER TABLE ONLY message_router.statuses
    ADD CONSTRAINT statuses_pkey PRIMARY KEY (channel, account, message, via, status);
ALTER TABLE ONLY message_router.usage
    ADD CONSTRAINT usage_pkey PRIMARY KEY (day, account, channel, country, fee_class, currency, correction_of);
ALTER TABLE ONLY message_router.waiting_statuses
    ADD CONSTRAINT waiting_statuses_pkey PRIMARY KEY (channel, account, message, via, status);
ALTER TABLE ONLY settings_v1.business_systems
    ADD CONSTRAINT business_systems_pkey PRIMARY KEY (channel, system);
ALTER TABLE ONLY settings_v1.channels
    ADD CONSTRAINT channels_pkey PRIMARY KEY (channel);
ALTER TABLE ONLY settings_v1.intents
    ADD CONSTRAINT intents_pkey PRIMARY KEY (channel, system, code);
ALTER TABLE ONLY switchboard.checkpoints
    ADD CONSTRAINT checkpoints_pkey PRIMARY KEY (consumer, topic, partition);
ALTER TABLE ONLY switchboard.migrations
    ADD CONSTRAINT migrations_pkey PRIMARY KEY (owner, name);
ALTER TABLE ONLY switchboard.read_models
    ADD CONSTRAINT read_models_pkey PRIMARY KEY (model);
CREATE INDEX intents_by_account ON catalogue_v1.intents USING btree (account, channel, system, code);
CREATE INDEX intents_by_code ON catalogue_v1.intents USING btree (account, code);
CREATE INDEX intents_by_template ON catalogue_v1.intents USING gin (templates);
CREATE INDEX access_log_by_time ON gateway.access_log USING brin ("time");
CREATE INDEX access_log_of_account ON gateway.access_log USING btree (account, number);
CREATE INDEX access_log_unpublished ON gateway.access_log USING btree (number) WHERE (NOT published);
CREATE INDEX api_keys_of_account ON gateway.api_keys USING btree (account, created_at);
CREATE INDEX entries_by_account ON history_v1.entries USING btree (account, "time", topic, partition, log_offset);
CREATE INDEX entries_by_actor ON history_v1.entries USING btree (account, actor, "time");
CREATE INDEX entries_by_channel ON history_v1.entries USING btree (channel, "time", topic, partition, log_offset);
CREATE INDEX entries_by_type ON history_v1.entries USING btree (account, type, "time");
CREATE UNIQUE INDEX entries_by_version ON history_v1.entries USING btree (channel, version) WHERE (topic = 'events'::text);
CREATE INDEX entries_of_proposed_changes ON history_v1.entries USING btree (channel, resource, version) WHERE (resource ~~ 'proposed-changes/%'::text);
CREATE INDEX deliveries_claimable ON invoker.deliveries USING btree (channel, system, lane, due_at) WHERE ((state = 'due'::text) AND (lease IS NULL));
CREATE INDEX deliveries_ended ON invoker.deliveries USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE INDEX deliveries_expiring ON invoker.deliveries USING btree (expires_at) WHERE ((state = ANY (ARRAY['waiting'::text, 'due'::text, 'parked'::text])) AND (expires_at IS NOT NULL));
CREATE INDEX deliveries_leased ON invoker.deliveries USING btree (leased_until) WHERE (lease IS NOT NULL);
CREATE INDEX deliveries_of_account ON invoker.deliveries USING btree (account, id);
CREATE INDEX deliveries_of_channel ON invoker.deliveries USING btree (channel, created_at);
CREATE INDEX deliveries_parked ON invoker.deliveries USING btree (channel, system) WHERE (state = 'parked'::text);
CREATE INDEX deliveries_waiting ON invoker.deliveries USING btree (created_at) WHERE (state = 'waiting'::text);
CREATE INDEX queues_awake ON invoker.queues USING btree (lane, wake_at);
CREATE INDEX test_calls_by_time ON invoker.test_calls USING btree (requested_at);
CREATE INDEX channels_channel_idx ON message_router.channels USING btree (channel) WHERE (scheduling_enabled AND (NOT retired));
CREATE INDEX messages_age ON message_router.messages USING btree (partition, requested_at);
CREATE INDEX messages_newest ON message_router.messages USING btree (channel, account, requested_at, message);
CREATE INDEX messages_requested_at_idx ON message_router.messages USING btree (requested_at) WHERE (state = 'waiting'::text);
CREATE INDEX messages_requested_at_idx1 ON message_router.messages USING btree (requested_at) WHERE (fallback_to IS NOT NULL);
CREATE INDEX messages_resource_decided_at_idx ON message_router.messages USING btree (resource, decided_at) WHERE (resource IS NOT NULL);
CREATE INDEX messages_timers ON message_router.messages USING btree (partition, next_timer) WHERE (next_timer IS NOT NULL);
CREATE INDEX rate_notices_changes_on_idx ON message_router.rate_notices USING btree (changes_on);
CREATE INDEX resources_country_idx ON message_router.resources USING btree (country);
CREATE INDEX waiting_statuses_received_at_idx ON message_router.waiting_statuses USING btree (received_at);
CREATE INDEX channels_by_account ON settings_v1.channels USING btree (account, channel);
CREATE INDEX channels_by_provider ON settings_v1.channels USING btree (provider, account, channel) WHERE (provider IS NOT NULL);
