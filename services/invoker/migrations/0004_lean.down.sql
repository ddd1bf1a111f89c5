DROP INDEX invoker.deliveries_parked;
CREATE INDEX deliveries_of_system ON invoker.deliveries (channel, system) WHERE state IN ('due', 'parked');
CREATE INDEX deliveries_pending ON invoker.deliveries (created_at) WHERE state IN ('waiting', 'due', 'parked');
ALTER TABLE invoker.attempts
    ADD CONSTRAINT attempts_delivery_fkey FOREIGN KEY (delivery) REFERENCES invoker.deliveries (id) ON DELETE CASCADE;
