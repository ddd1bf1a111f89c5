COMMENT ON COLUMN invoker.deliveries.request IS 'as it was asked for; where its data is true, the body has the data, its last field';
