"""Fixtures of the documents' tests."""

from tests.readme.fix_reader import reader

__all__ = ["reader"]
