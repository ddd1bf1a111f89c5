-- What the deliveries of each account take: request, body, and answers.
ALTER TABLE invoker.deliveries ADD COLUMN stored_bytes integer NOT NULL DEFAULT 0;
CREATE TABLE invoker.stored_bytes (
    account text PRIMARY KEY,
    bytes bigint NOT NULL
);
-- Added up by the sweepers; a row for each change, so that no two transactions wait for each other.
CREATE TABLE invoker.stored_bytes_changes (
    account text NOT NULL,
    bytes bigint NOT NULL
);
UPDATE invoker.deliveries d SET stored_bytes = octet_length(d.request::text) + coalesce(octet_length(d.body), 0)
    + coalesce((SELECT sum(octet_length(a.answer)) FROM invoker.attempts a WHERE a.delivery = d.id), 0);
INSERT INTO invoker.stored_bytes SELECT account, sum(stored_bytes) FROM invoker.deliveries GROUP BY account;
