-- A system is verified by its first 2xx to a signed call at its present URL; until then it is called now and then.
ALTER TABLE invoker.business_systems ADD COLUMN verified_at timestamptz, ADD COLUMN next_call_at timestamptz;
COMMENT ON COLUMN invoker.business_systems.next_call_at IS 'of an unverified system: no call before; NULL: at any time';
UPDATE invoker.business_systems s SET verified_at = now() WHERE EXISTS (
    SELECT FROM invoker.deliveries d WHERE d.channel = s.channel AND d.system = s.system AND d.state = 'delivered'
);
