-- name: position
SELECT sequence FROM positions WHERE partition = $1

-- name: move_position
INSERT INTO positions VALUES ($1, $2) ON CONFLICT (partition) DO UPDATE SET sequence = excluded.sequence

-- name: versions
SELECT channel, version FROM channels WHERE channel = ANY($1::text[])

-- name: systems
SELECT s.* FROM business_systems s
JOIN unnest($1::text[], $2::text[]) AS wanted (channel, system) USING (channel, system)

-- name: intents
SELECT i.* FROM intents i
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (channel, system, code) USING (channel, system, code)

-- name: forget_channels_systems
WITH intents AS (DELETE FROM intents WHERE channel = ANY($1::text[]))
DELETE FROM business_systems WHERE channel = ANY($1::text[])

-- name: forget_systems
WITH gone AS (SELECT * FROM unnest($1::text[], $2::text[]) AS gone (channel, system)),
intents AS (DELETE FROM intents USING gone WHERE intents.channel = gone.channel AND intents.system = gone.system)
DELETE FROM business_systems s USING gone WHERE s.channel = gone.channel AND s.system = gone.system

-- name: forget_intents
DELETE FROM intents i USING unnest($1::text[], $2::text[], $3::text[]) AS gone (channel, system, code)
WHERE i.channel = gone.channel AND i.system = gone.system AND i.code = gone.code
