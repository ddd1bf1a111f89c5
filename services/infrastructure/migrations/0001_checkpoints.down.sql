DROP TABLE switchboard.checkpoints;
