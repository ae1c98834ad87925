"""Ledger and catalogue: on SQLite, and in memory."""
