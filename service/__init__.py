"""The server: REST API, database, leases and the orchestrator of jobs."""
