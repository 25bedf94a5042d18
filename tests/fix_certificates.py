"""Certificates of all kinds, also of those that nobody should accept."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CURVE = ec.SECP256R1()
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@dataclass(frozen=True)
class Pair:
    """A certificate's file and its key's."""

    certificate: Path
    key: Path

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.certificate.read_bytes()).serial_number


class Authority:
    """A CA that signs whatever it is asked to.

    Args:
        directory: Where its certificate (ca.crt) and those that it signs are written.
        common_name: Its name.
        key: Its key (PEM); None: a new one.
    """

    def __init__(self, directory: Path, common_name: str, key: str | None = None) -> None:
        self._directory = directory
        self._common_name = common_name
        loaded = (
            serialization.load_pem_private_key(key.encode(), None) if key else ec.generate_private_key(ec.SECP256R1())
        )
        assert isinstance(loaded, ec.EllipticCurvePrivateKey)
        self._key = loaded
        self.file = directory / "ca.crt"
        certificate = (
            self._begun(common_name, self._key.public_key(), days=3650)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _begun(self, common_name: str, key: Any, *, days: float) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(_name(self._common_name))
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=400))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )

    def sign(self, name: str, usage: str, *, names: Sequence[str] = (), days: float = 30, file: str = "") -> Pair:
        """Make a pair; a number of days below 0 is for one that has expired.

        Args:
            name: Common name.
            usage: server or client.
            names: Further names, and addresses.
            days: How long it is valid from now on.
            file: Name of the files; by default the common name.
        """
        pair = Pair(self._directory / f"{file or name}.crt", self._directory / f"{file or name}.key")
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._begun(name, key.public_key(), days=days).add_extension(
            x509.ExtendedKeyUsage([USAGES[usage]]), critical=False
        )
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general(name) for name in names]), critical=False
            )
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(_pem(key))
        certificate = builder.sign(self._key, hashes.SHA256())
        pair.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return pair

    def sign_request(self, request: Path, *, new_key: bool = False) -> None:
        """Sign what somebody asks for; the certificate is put beside it, and its key where that is to be a new one."""
        asked = x509.load_pem_x509_csr(request.read_bytes())
        name = asked.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
        public_key: Any = asked.public_key()
        if new_key:
            key = ec.generate_private_key(ec.SECP256R1())
            request.with_suffix(".key").write_bytes(_pem(key))
            public_key = key.public_key()
        builder = self._begun(str(name), public_key, days=365)
        for extension in asked.extensions:
            builder = builder.add_extension(extension.value, critical=extension.critical)
        certificate = builder.sign(self._key, hashes.SHA256())
        request.with_suffix(".crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
