"""The rows' classes, such as LiteLLM_UserTable: each is made when it is first asked for."""

from litellm_sqlalchemy.prisma_client.client import description
from litellm_sqlalchemy.prisma_client.rows import Row


def __getattr__(name: str) -> type[Row]:
    """Give a model's class."""
    entity = None if name.startswith("__") else description().entities.get(name)
    if entity is None:
        raise AttributeError(f"module 'prisma.models' has no attribute {name!r}")
    return entity.row


def __dir__() -> list[str]:
    return sorted(description().entities)
