-- name: versions
SELECT channel, version FROM channels WHERE channel = ANY($1::text[])

-- name: delete_signatures
UPDATE business_systems SET signatures = '[]' WHERE channel = ANY($1::text[])

-- name: delete_systems
WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (channel, system)),
intents AS (DELETE FROM intents USING gone WHERE intents.channel = gone.channel AND intents.system = gone.system)
DELETE FROM business_systems s USING gone WHERE s.channel = gone.channel AND s.system = gone.system

-- name: delete_intents
DELETE FROM intents i USING unnest($1::text[], $2::text[], $3::text[]) AS gone (channel, system, code)
WHERE i.channel = gone.channel AND i.system = gone.system AND i.code = gone.code
