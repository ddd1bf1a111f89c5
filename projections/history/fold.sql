-- name: resources
SELECT r.* FROM resources r
JOIN unnest($1::text[], $2::text[]) AS wanted (channel, resource) USING (channel, resource)

-- name: resources_of_channels
SELECT * FROM resources WHERE channel = ANY($1::text[])

-- name: delete
DELETE FROM resources r USING unnest($1::text[], $2::text[]) AS gone (channel, resource)
WHERE r.channel = gone.channel AND r.resource = gone.resource

-- name: keep_expired
INSERT INTO entries
SELECT * FROM history.entries WHERE topic = 'outcomes' AND partition = $1 AND log_offset >= $2 AND log_offset < $3
