"""The ledger: capture (ASGI) → spool (SQLite on the gateway) → drain → tables `requests` and `responses`."""
