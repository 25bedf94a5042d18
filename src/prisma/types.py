"""Names for annotations, which restrict nothing here: what they mean is in prisma-client-py's documentation."""

from collections.abc import Mapping
from typing import Any, TypedDict


class DatasourceOverride(TypedDict, total=False):
    """Another database than DATABASE_URL's.

    Attributes:
        url: Where it is.
        env: Not used.
        name: Not used.
    """

    url: str
    env: str
    name: str


HttpConfig = Mapping[str, Any]


def __getattr__(name: str) -> Any:
    """Give a type of arguments, such as LiteLLM_UserTableWhereInput."""
    if name.startswith("__"):
        raise AttributeError(name)
    return dict[str, Any]  # which LiteLLM calls as well
