-- name: systems
SELECT s.* FROM business_systems s
JOIN unnest($1::text[], $2::text[]) AS wanted (channel, system) USING (channel, system)

-- name: intents
SELECT i.* FROM intents i
JOIN unnest($1::text[], $2::text[], $3::text[]) AS wanted (channel, system, code) USING (channel, system, code)
