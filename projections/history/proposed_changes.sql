-- name: changes
SELECT resource, type, version, time, actor, data FROM history.entries
WHERE channel = $1 AND account = $2 AND resource LIKE 'proposed-changes/%' AND resource IN (
    SELECT p.resource FROM history.entries p
    WHERE p.channel = $1 AND p.resource LIKE 'proposed-changes/%' AND p.type = 'ChangeProposed'
        AND ($3::text IS NULL OR p.resource = $3) AND ($4::bigint IS NULL OR p.version < $4)
        AND NOT ($5 AND EXISTS (
            SELECT FROM history.entries c
            WHERE c.channel = $1 AND c.resource LIKE 'proposed-changes/%' AND c.resource = p.resource
                AND c.version > p.version AND c.type IN ('ChangeApplied', 'ChangeDeclined', 'ChangeVoided')))
    ORDER BY p.version DESC LIMIT $6)
ORDER BY version
