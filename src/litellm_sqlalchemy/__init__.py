"""What runs on the gateway host: the ledger of every request and response, and the gateway's ASGI application."""
