"""Say which certificates of a directory expire soon, and what to do; fail if there is one."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509


def main() -> int:
    """Look at each certificate of each file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--days", type=int, required=True, help="fewer are soon")
    parser.add_argument("--cure", required=True, help="what to do about it")
    options = parser.parse_args()
    soon = datetime.now(UTC) + timedelta(days=options.days)
    found = [
        f"{file}: the certificate of {certificate.subject.rfc4514_string()} expires at {expires:%Y-%m-%d %H:%M} UTC"
        for file in sorted(options.directory.glob("*.crt"))
        for certificate in x509.load_pem_x509_certificates(file.read_bytes())
        if (expires := expiry(certificate)) < soon
    ]
    for line in found:
        sys.stderr.write(f"<3>{line}. {options.cure}\n")
    return 1 if found else 0


def expiry(certificate: x509.Certificate) -> datetime:
    """When it expires; the release of the library that Ubuntu 24.04 has knows only a time without a zone."""
    if hasattr(certificate, "not_valid_after_utc"):
        return certificate.not_valid_after_utc
    return certificate.not_valid_after.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
