DROP INDEX invoker.deliveries_by_correlation;
