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
