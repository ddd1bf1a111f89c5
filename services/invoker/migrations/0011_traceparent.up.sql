ALTER TABLE invoker.deliveries ADD COLUMN traceparent text;
COMMENT ON COLUMN invoker.deliveries.traceparent IS 'W3C Trace Context of the request: passed on with its calls and its outcome';
