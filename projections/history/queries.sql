-- name: find_about
SELECT * FROM history.entries
WHERE ($1::text IS NULL OR account = $1) AND channel = $2
    AND (correlation_id = $3 OR (command_id = $3 AND command_id <> correlation_id))
ORDER BY time DESC, topic DESC, partition DESC, log_offset DESC
LIMIT $4

-- name: find
SELECT * FROM history.entries
WHERE ($1::text IS NULL OR account = $1) AND ($2::text IS NULL OR channel = $2) AND ($3::text IS NULL OR actor = $3)
    AND ($4::text[] IS NULL OR type = ANY($4) OR command = ANY($4) OR rejection = ANY($4))
    AND ($5::timestamptz IS NULL OR time >= $5) AND ($6::timestamptz IS NULL OR time < $6)
    AND ($7::timestamptz IS NULL OR (time, topic, partition, log_offset) < ($7, $8::text, $9::integer, $10::bigint))
ORDER BY time DESC, topic DESC, partition DESC, log_offset DESC
LIMIT $11

-- name: versions
SELECT w.account, w.channel, e.version FROM unnest($1::text[], $2::text[]) AS w(account, channel)
CROSS JOIN LATERAL (
    SELECT account, version FROM history.entries
    WHERE topic = 'events' AND channel = w.channel AND version IS NOT NULL ORDER BY version DESC LIMIT 1
) AS e WHERE w.account IS NULL OR e.account = w.account

-- name: events_between
SELECT * FROM history.entries
WHERE topic = 'events' AND partition = $1 AND log_offset BETWEEN $2 AND $3

-- name: unread_events
SELECT partition, log_offset, channel FROM history.entries e
WHERE topic <> 'outcomes' AND NOT EXISTS (
    SELECT FROM switchboard.checkpoints c
    WHERE e.topic = 'events' AND c.consumer = $1 AND c.topic = $2 AND c.partition = e.partition AND c.next_offset > e.log_offset)
LIMIT 100
