-- Each owner's sessions, of which the one that was used the longest ago ends for a new one; and what has ended.
CREATE INDEX ON console.sessions (key_id);
CREATE INDEX ON console.sessions (subject);
CREATE INDEX ON console.sessions (created_at);
CREATE INDEX ON console.log_ons (created_at);
