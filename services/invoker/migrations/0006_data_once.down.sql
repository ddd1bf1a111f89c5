-- By their texts, not as JSON: a string in the data may hold \u0000, which Postgres keeps but does not read.
UPDATE invoker.deliveries SET request = (
    left(request::text, -length('true}'))
    || substr(convert_from(body, 'UTF8'), strpos(convert_from(body, 'UTF8'), ',"data":') + length(',"data":'))
)::json
WHERE request::text LIKE '%,"data":true}';
COMMENT ON COLUMN invoker.deliveries.request IS NULL;
