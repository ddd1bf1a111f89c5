ALTER TABLE invoker.business_systems DROP COLUMN verified_at, DROP COLUMN next_call_at;
