"""Fixtures of the gateway's tests."""

from tests.gateway.fix_litellm import litellm, rows

__all__ = ["litellm", "rows"]
