"""Certificates over a workspace: what a version is held against, and by whose key it is signed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tracemill.core.certificate import Certificate
from tracemill.core.errors import DatasetError, SettingError
from tracemill.core.policy import Policy
from tracemill.core.steps import Progress
from tracemill.dataset.certified import certificate_problems, read_certificate
from tracemill.dataset.version import Version, find_version
from tracemill.privacy.anonymity import Anonymity
from tracemill.privacy.audit import AuditLog
from tracemill.privacy.consent import Consents, read_consents
from tracemill.privacy.signing import Signer
from tracemill.store.tiered import TieredStore
from tracemill.workspace.consenting import Consenting
from tracemill.workspace.redacting import Redacting


class Certifying:
    """Certifies versions of one workspace."""

    def __init__(
        self,
        root: Path,
        store: TieredStore,
        log: AuditLog,
        signer: Signer,
        consenting: Consenting,
        redacting: Redacting,
    ) -> None:
        self._root, self._store, self._log, self._signer = root, store, log, signer
        self._consenting, self._redacting = consenting, redacting

    def certify(
        self,
        reference: str,
        evaluations: Sequence[Path] = (),
        *,
        k: int = 5,
        columns: Sequence[str] = (),
        actor: str,
        progress: Progress | None = None,
    ) -> Certificate:
        """Look at a version, write and give its signed certificate. ``evaluations`` are files of evaluation sets.

        Raises DatasetError, SourceError for a file that is no evaluation set, SettingError where NumPy is not installed or
        the policy that the version was redacted by was changed since.
        """
        _need_numpy()
        from tracemill.dataset.certificate import COLUMNS, Asked, certify  # noqa: PLC0415 - heavy, and an optional part
        from tracemill.dataset.contamination import read_evaluation  # noqa: PLC0415

        version = find_version(self._root, reference)
        asked = Asked(
            held=self._held(version),
            evaluations=[read_evaluation(path) for path in evaluations],
            policy=self._policy(version),
            k=k,
            columns=tuple(columns) or COLUMNS,
        )
        made = certify(version, self._store, self._signer, asked, progress)
        self._log.record(
            "dataset.certify",
            version.reference,
            actor=actor,
            state=made.state,
            failed=[check.name for check in made.checks if check.state == "failed"],
        )
        return made

    def certificate(self, reference: str) -> tuple[Certificate, list[str]]:
        """The certificate of a version, and what is wrong with it. Raises DatasetError when it has none."""
        _need_numpy()
        version = find_version(self._root, reference)
        found = read_certificate(version)
        if found is None:
            raise DatasetError(
                f"{version.reference} was not certified", hint=f"`tracemill dataset certify {version.reference}` does."
            )
        return found, certificate_problems(version, found, self._signer)

    def anonymity(self, reference: str, columns: Sequence[str] = (), *, k: int = 5) -> Anonymity:
        """How well the rows of a version hide among each other. Raises DatasetError."""
        _need_numpy()
        from tracemill.dataset.certificate import COLUMNS, anonymity  # noqa: PLC0415 - heavy, and an optional part

        version = find_version(self._root, reference)
        return anonymity(version, self._store, tuple(columns) or COLUMNS, k)

    def _policy(self, version: Version) -> Policy | None:
        """What its rows were redacted by: at the build, else before they were stored. Raises SettingError."""
        reference: str | None = version.manifest.recipe.get("redaction")
        return self._redacting.policies.find(reference) if reference else self._redacting.stored

    def _held(self, version: Version) -> Consents:
        plain = version.manifest.recipe
        purpose = plain.get("purpose", "train")
        strict = "denied" in (plain.get("consent_default"), self._consenting.default(purpose))
        return read_consents(self._store, purpose, "denied" if strict else "granted")


def _need_numpy() -> None:
    from importlib.util import find_spec  # noqa: PLC0415 - asked once in a while

    if find_spec("numpy") is None:
        raise SettingError("numpy is not installed", hint="pip install 'tracemill[quality]'")
