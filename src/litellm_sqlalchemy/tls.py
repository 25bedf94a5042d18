"""How this side and PostgreSQL prove to each other who they are: libpq's words for it, and a command line's."""

import argparse
from dataclasses import dataclass
from typing import Literal, get_args

SSLMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]


@dataclass(frozen=True, kw_only=True)
class TLS:
    """What a connection is made with.

    Attributes:
        sslmode: What is asked of the server. Where its certificate is verified, the password's proof is bound to the
            connection as well, so that nobody in between can use it.
        sslrootcert: File of the certificates to verify the server's by; empty: libpq's own place.
        sslcert: File of this side's certificate; empty: libpq's own place.
        sslkey: File of its key.
    """

    sslmode: SSLMode = "verify-full"
    sslrootcert: str = ""
    sslcert: str = ""
    sslkey: str = ""

    @property
    def channel_binding(self) -> Literal["prefer", "require"]:
        """What libpq is told of the password's proof."""
        return "require" if self.sslmode.startswith("verify") else "prefer"


def add_tls_arguments(parser: argparse.ArgumentParser) -> None:
    """Have a command line take what `TLS` has.

    Args:
        parser: The command line's.
    """
    parser.add_argument(
        "--sslmode", default=TLS.sslmode, choices=get_args(SSLMode), help="libpq's sslmode (default: %(default)s)"
    )
    parser.add_argument("--sslrootcert", default="", help="file of the CA certificates to verify the server's by")
    parser.add_argument("--sslcert", default="", help="file of this side's certificate")
    parser.add_argument("--sslkey", default="", help="file of its key")


def tls_of(options: argparse.Namespace) -> TLS:
    """Read what `add_tls_arguments` has the command line take.

    Args:
        options: The command line.
    """
    return TLS(sslmode=options.sslmode, sslrootcert=options.sslrootcert, sslcert=options.sslcert, sslkey=options.sslkey)
