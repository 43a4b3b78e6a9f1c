"""A certificate authority of the tests' own: good certificates, and every kind that must be refused."""

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = timedelta(days=1)


def name(common_name):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


class Authority:
    """A CA with its files in `folder`; `ca.path` is what a peer is told to believe."""

    def __init__(self, folder, label="ca", *, days=3650):
        self.folder, self.label = folder, label
        self.key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = self._builder(name(label), self.key.public_key(), now - DAY, now + days * DAY)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False
        )
        self.certificate = builder.sign(self.key, SHA256())
        self.path = folder / f"{label}.pem"
        self.path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def _builder(self, subject, public, begin, end):
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(name(self.label))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(end)
        )

    def issue(
        self, common_name, *, server=False, days=365.0, since_days=-1.0, file=None, password=None, host="127.0.0.1"
    ):
        """`FILE.pem` and `FILE.key` of a new certificate; the pair of paths and the certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = self._builder(name(common_name), key.public_key(), now + since_days * DAY, now + days * DAY)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(authority, critical=False)
        if server:
            address = x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host)
            builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
        certificate = builder.sign(self.key, SHA256())
        file = file or common_name
        pem, private = self.folder / f"{file}.pem", self.folder / f"{file}.key"
        pem.write_bytes(certificate.public_bytes(Encoding.PEM))
        locked = NoEncryption() if password is None else BestAvailableEncryption(password)
        private.unlink(missing_ok=True)
        private.touch(mode=0o600)
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
        return pem, private, certificate

    def revoke(self, *certificates):
        """The list of revoked certificates, written anew; its path."""
        now = datetime.now(UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(name(self.label))
        builder = builder.last_update(now - DAY).next_update(now + 30 * DAY)
        for certificate in certificates:
            entry = x509.RevokedCertificateBuilder().serial_number(certificate.serial_number).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        path = self.folder / f"{self.label}.crl"
        path.write_bytes(builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM))
        return path
