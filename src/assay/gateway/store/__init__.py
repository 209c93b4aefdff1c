"""The gateway's memory: accounts, claims, credit and the journal, in SQLite or PostgreSQL."""
