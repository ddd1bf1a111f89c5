-- Requests that belong together are found without the rest of a channel's; most have no correlation id but their own.
CREATE INDEX deliveries_by_correlation ON invoker.deliveries (channel, correlation_id)
    WHERE correlation_id <> request_id;
