"""Fixtures of the gateway's tests."""

from tests.gateway.fix_litellm import litellm

__all__ = ["litellm"]
