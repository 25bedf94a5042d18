"""The genuine Prisma client beside this one: the two have files of the same names, so only one can be there."""

from importlib.metadata import PackageNotFoundError, distribution

CURE = (
    "prisma (prisma-client-py {version}) is installed beside litellm-sqlalchemy, and both have a package named prisma: "
    "uninstall it (pip uninstall prisma), then install litellm-sqlalchemy anew (pip install --force-reinstall "
    "--no-deps litellm-sqlalchemy), as files of one may have replaced the other's"
)


def refuse() -> None:
    """Refuse to be imported beside it.

    Raises:
        ImportError: It is there; the message says what to do.
    """
    try:
        found = distribution("prisma")
    except PackageNotFoundError:
        return
    raise ImportError(CURE.format(version=found.version))
