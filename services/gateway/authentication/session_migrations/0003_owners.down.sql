DROP INDEX console.sessions_key_id_idx, console.sessions_subject_idx, console.sessions_created_at_idx;
DROP INDEX console.log_ons_created_at_idx;
