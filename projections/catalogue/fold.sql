-- name: intents
SELECT i.* FROM intents i
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (channel, system, code) USING (channel, system, code)

-- name: systems
SELECT s.* FROM systems s
JOIN unnest($1::text[], $2::text[]) AS wanted (channel, system) USING (channel, system)

-- name: forget_channels
WITH systems AS (DELETE FROM systems WHERE channel = ANY($1::text[]))
DELETE FROM intents WHERE channel = ANY($1::text[])

-- name: forget_systems
WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (channel, system)),
intents AS (
    DELETE FROM intents i USING gone WHERE i.channel = gone.channel AND i.system = gone.system
)
DELETE FROM systems s USING gone WHERE s.channel = gone.channel AND s.system = gone.system

-- name: forget_intents
DELETE FROM intents i USING unnest($1::text[], $2::text[], $3::text[]) AS gone (channel, system, code)
WHERE i.channel = gone.channel AND i.system = gone.system AND i.code = gone.code
