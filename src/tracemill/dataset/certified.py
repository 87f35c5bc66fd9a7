"""Certificates read back and held against what lies there. Needs nothing that is optional, unlike making one."""

from __future__ import annotations

import msgspec

from tracemill.core.certificate import Certificate
from tracemill.core.errors import DatasetError
from tracemill.dataset.version import CERTIFICATE, Version
from tracemill.privacy.signing import Signer


def read_certificate(version: Version) -> Certificate | None:
    """The certificate of a version, if it has one. Raises DatasetError when it cannot be read."""
    path = version.path / CERTIFICATE
    if not path.exists():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Certificate)
    except (OSError, msgspec.MsgspecError) as error:
        raise DatasetError(f"{version.reference}: {CERTIFICATE} cannot be read: {error}") from error


def certificate_problems(version: Version, certificate: Certificate, signer: Signer) -> list[str]:
    """What is wrong with a certificate, one sentence each; empty when it is as it was signed, and of this very version."""
    return binding_problems(version, certificate, signer) + version.verify()


def binding_problems(version: Version, certificate: Certificate, signer: Signer) -> list[str]:
    """As :func:`certificate_problems`, without a look at the version's files."""
    problems = []
    if certificate.key_id != signer.key_id:
        problems.append(f"it was signed with the key {certificate.key_id}, not with this workspace's {signer.key_id}")
    elif not signer.holds(certificate.signed_bytes(), certificate.signature):
        problems.append("the signature does not hold: it was changed after it was signed")
    if (certificate.dataset, certificate.version) != (version.name, version.path.name):
        problems.append(f"it is of {certificate.dataset}@{certificate.version}")
    if (stone := version.tombstone) is not None:
        problems.append(f"the version has no rows any more: records it was made of were erased ({stone.receipt})")
    if certificate.manifest_sha256 != version.manifest_sha256:
        problems.append("the manifest is not the one it was issued for")
    return problems
