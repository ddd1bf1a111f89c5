DROP TABLE gateway.access_log;
