-- name: channels
SELECT * FROM settings.channels
WHERE ($1::text IS NULL OR account = $1) AND channel > $2
    AND ($4::text IS NULL OR channel = $4) AND ($5::text IS NULL OR provider = $5)
ORDER BY channel LIMIT $3

-- name: by_account
SELECT * FROM settings.channels
WHERE ($1::text IS NULL OR account = $1) AND (account, channel) > ($2, $3)
    AND ($5::text IS NULL OR channel = $5) AND ($6::text IS NULL OR provider = $6)
ORDER BY account, channel LIMIT $4

-- name: channel_counts
SELECT account, count(*) AS channels, count(*) FILTER (WHERE retired) AS retired FROM settings.channels
WHERE account = ANY($1::text[]) AND ($2::text IS NULL OR channel = $2) AND ($3::text IS NULL OR provider = $3)
GROUP BY account

-- name: search
SELECT * FROM settings.channels
WHERE ($1::text IS NULL OR account = $1) AND channel > $2 AND (channel ILIKE $4 OR name ILIKE $4)
    AND ($5 = '' OR channel_type = $5)
ORDER BY channel LIMIT $3

-- name: channel
SELECT * FROM settings.channels WHERE channel = $1 AND ($2::text IS NULL OR account = $2)

-- name: account_of_providers_channel
SELECT account FROM settings.channels WHERE channel = $1 AND provider = $2

-- name: other_channels
SELECT count(*) FROM (
    SELECT 1 FROM settings.channels WHERE account = $1 AND channel <> $2 AND NOT retired LIMIT $3
) AS channels

-- name: systems
SELECT * FROM settings.business_systems WHERE channel = $1 ORDER BY system

-- name: intents
SELECT * FROM settings.intents WHERE channel = $1 ORDER BY system, code

-- name: owner_and_version
SELECT account, version FROM settings.channels WHERE channel = $1 AND ($2::text IS NULL OR account = $2)

-- name: versions
SELECT w.account, w.channel, c.version FROM unnest($1::text[], $2::text[]) AS w(account, channel)
JOIN settings.channels c ON c.channel = w.channel AND (w.account IS NULL OR c.account = w.account)

-- name: systems_compared
SELECT channel, system, encode(sha256(convert_to(ROW(
    name, api_request_url, remarks, signature_style, disabled,
    ARRAY(
        SELECT ROW(code, i.name, default_data::text, json_schema::text, ARRAY(SELECT unnest(templates) ORDER BY 1))::text
        FROM settings.intents i WHERE i.channel = b.channel AND i.system = b.system ORDER BY code
    ))::text, 'UTF8')), 'hex') AS digest
FROM settings.business_systems b WHERE channel = ANY($1::text[])

-- name: positions
SELECT partition, next_offset, sequence FROM switchboard.checkpoints WHERE consumer = $1 AND topic = $2

-- name: channel_ids
SELECT channel FROM settings.channels WHERE channel > $1 ORDER BY channel LIMIT $2

-- name: orphans
SELECT channel, 'business system ' || system AS what FROM settings.business_systems b
WHERE NOT EXISTS (SELECT FROM settings.channels c WHERE c.channel = b.channel)
UNION ALL
SELECT channel, 'intent ' || system || '/' || code AS what FROM settings.intents i
WHERE NOT EXISTS (SELECT FROM settings.business_systems b WHERE b.channel = i.channel AND b.system = i.system)
LIMIT 100
