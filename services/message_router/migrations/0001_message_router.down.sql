DROP SCHEMA message_router CASCADE;
