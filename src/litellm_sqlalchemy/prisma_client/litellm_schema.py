"""Where the LiteLLM that is installed has its database's schema."""

from importlib.util import find_spec
from pathlib import Path

from litellm_sqlalchemy.prisma_client.schema import Schema, parse

# The first is the code's own; the second, that of the migrations, may be of a newer release.
PLACES = (("litellm", "proxy/schema.prisma"), ("litellm_proxy_extras", "schema.prisma"))


class NotInstalledError(ImportError):
    """There is no LiteLLM."""


def path() -> Path:
    """Find the file.

    Raises:
        NotInstalledError: There is none.
    """
    for package, file in PLACES:
        spec = find_spec(package)
        for directory in spec.submodule_search_locations or () if spec else ():
            if (found := Path(directory, file)).is_file():
                return found
    raise NotInstalledError("LiteLLM's schema.prisma is not there: install litellm[proxy] into this environment")


def schema() -> Schema:
    """Read it.

    Raises:
        NotInstalledError: There is none.
        SchemaError: It cannot be read.
    """
    return parse(path().read_text())
