-- name: intents
SELECT i.* FROM catalogue.intents i
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (channel, system, code) USING (channel, system, code)

-- name: systems
SELECT s.* FROM catalogue.systems s
JOIN unnest($1::text[], $2::text[]) AS wanted (channel, system) USING (channel, system)

-- name: forget_channels
WITH systems AS (DELETE FROM catalogue.systems WHERE channel = ANY($1::text[]))
DELETE FROM catalogue.intents WHERE channel = ANY($1::text[])

-- name: forget_systems
WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (channel, system)),
intents AS (
    DELETE FROM catalogue.intents i USING gone WHERE i.channel = gone.channel AND i.system = gone.system
)
DELETE FROM catalogue.systems s USING gone WHERE s.channel = gone.channel AND s.system = gone.system

-- name: forget_intents
DELETE FROM catalogue.intents i USING unnest($1::text[], $2::text[], $3::text[]) AS gone (channel, system, code)
WHERE i.channel = gone.channel AND i.system = gone.system AND i.code = gone.code

-- name: find
SELECT i.*, s.name AS system_name, s.disabled
FROM catalogue.intents i JOIN catalogue.systems s USING (channel, system)
WHERE ($1::text IS NULL OR i.account = $1) AND ($2::text IS NULL OR i.channel = $2) AND ($3::text IS NULL OR i.code = $3)
    AND ($4::text IS NULL OR i.templates @> ARRAY[$4]) AND (i.channel, i.system, i.code) > ($5::text, $6::text, $7::text)
ORDER BY i.channel, i.system, i.code
LIMIT $8

-- name: all_systems
SELECT channel, system, name, disabled FROM catalogue.systems ORDER BY channel COLLATE "C", system COLLATE "C"

-- name: all_intents
SELECT channel, account, system, code, name, default_data, json_schema, templates, version FROM catalogue.intents
ORDER BY channel COLLATE "C", system COLLATE "C", code COLLATE "C"
