"""Fixtures of the database's tests."""

from tests.fix_prisma import litellms, migrated, migrated_template, project

__all__ = ["litellms", "migrated", "migrated_template", "project"]
