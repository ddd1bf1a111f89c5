-- Of events: the partitionsequence of the last one applied, so that every consumer stops at a gap. Unknown before this.
ALTER TABLE switchboard.checkpoints ADD COLUMN sequence bigint;
