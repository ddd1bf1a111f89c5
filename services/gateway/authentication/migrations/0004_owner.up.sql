-- The person that a key belongs to, for four eyes. NULL: a person of its own, as the keys there are stay.
ALTER TABLE gateway.api_keys ADD COLUMN owner text;
