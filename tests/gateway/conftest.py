"""Fixtures of the gateway's tests."""

from tests.gateway.fix_capture import broken, gate, gateway, http, path, upstream
from tests.gateway.fix_litellm import litellm, rows

__all__ = ["broken", "gate", "gateway", "http", "litellm", "path", "rows", "upstream"]
