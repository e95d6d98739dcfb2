"""What the gateway keeps: keys, limits, budgets, the ledger, the audit log, content. SQLite or PostgreSQL."""
