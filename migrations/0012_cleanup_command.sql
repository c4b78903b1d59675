-- Execution may have an issue handled for a CLEANUP (functions/tasks.sql), and give no other command.
REVOKE INSERT ON repair_command FROM aethelos_execution;
