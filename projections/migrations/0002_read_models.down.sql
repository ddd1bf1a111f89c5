-- Only the first version goes back: roll back to it before, where another one is live.
DROP VIEW settings.positions;
DROP TABLE settings_v1.positions;
DROP TABLE switchboard.read_models;
