ALTER TABLE switchboard.checkpoints DROP COLUMN sequence;
