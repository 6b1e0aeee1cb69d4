"""The registry of versions: MLflow's, with what it lacks: one version a candidate, and a history of champions."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from mlops_assets import settings
from mlops_assets.ml.registration import identity
from mlops_assets.ml.seals import BrokenSealError, Statement, seal, voucher
from mlops_assets.ml.signing import SigningKey
from mlops_assets.ml.spec import Value
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.keys import Keys, KeyUnavailableError
from mlops_assets.resources.postgresql import is_postgresql, turn
from mlops_assets.resources.tracking import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"
CANDIDATE, RECORD, REIGN, PREVIOUS = "mlops.candidate", "mlops.record", "mlops.reign", "mlops.previous_champion"
REPRODUCED = "mlops.reproduced"
SEAL = "mlops.seal"
LOGGED, MODEL_VERSIONS = "models:/", "mlflow.modelVersions"
NOT_THERE = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")  # what MLflow says of an alias, and of a model
PATIENCE_SECONDS = 120


class RegistryConflictError(dg.DagsterError):
    """The registry is not as it was when a decision was made, or does not hold what was just written."""


class UnvouchedError(CorruptBytesError):
    """Nobody whose signature counts vouches for a version."""


class Version(Value):
    """A numbered version of a model. `reign` counts champions: 1 was the first; None has never been one.

    `candidate` is the identity of what it holds, `record` the digest of the stored Candidate.
    """

    model: str
    number: int
    candidate: str
    record: str
    mlflow_run_id: str
    reign: int | None
    previous_champion: int | None
    tags: dict[str, str]
    registered: datetime


class Registry(dg.ConfigurableResource):
    """Versions in the MLflow registry, with their Candidate records as blobs under `root`.

    Registrations take turns, look again once they have theirs, and look once more after writing. The turn is a lock in
    the `ledger` where that is PostgreSQL, which holds over machines; otherwise one under `root` (for a root on an
    object store: on this machine only). Who is champion is decided in the ledger.

    With a key at `signing` a version is signed when it is registered; where `trusted` says whose signatures count, one
    that is not signed is given to nobody.
    """

    root: str
    tracking_uri: str
    signing: str = ""
    trusted: str = ""
    ledger: str = ""

    def register(
        self, candidate: Candidate, tags: Mapping[str, str] | None = None, description: str | None = None
    ) -> Version:
        """The version that holds `candidate`, made and signed if there is none; the newest is challenger.

        Raises KeyUnavailableError before anything is written where only what is signed counts, and nothing can sign.
        """
        model, signer = candidate.model, self._signer()
        with self._turn(model):
            self._ensure_model(model)
            known = {version.candidate: version for version in self.versions(model)}
            version = known.get(identity(candidate)) or self._create(candidate, tags or {}, description)
            newest = max([version.number, *(other.number for other in known.values())])
            self._set_alias(model, CHALLENGER, newest)
            self._link(candidate, version)
            if signer is not None and SEAL not in version.tags:
                return self.vouch(version, signer)
        return version

    def vouch(self, version: Version, signer: SigningKey) -> Version:
        """Sign what the registry says of a version."""
        self._tag(version, SEAL, seal(_statement(version), signer))
        return self.version(version.model, version.number)

    def voucher(self, version: Version) -> str | None:
        """Who signed a version; None without keys. Raises UnvouchedError where nobody did whose signature counts."""
        try:
            trust = self._keys.trust()
            return voucher(version.tags.get(SEAL), _statement(version), trust) if trust else None
        except (BrokenSealError, KeyUnavailableError) as error:
            raise UnvouchedError(
                f"{version.model} v{version.number} is not loaded: {error} docs/rollback.md says what each signature "
                "protects from, and how a version is signed."
            ) from error

    def crown(self, model: str, number: int, previous: int | None) -> None:
        """Put the alias champion on a version, and write on it which champion it is; done again it changes nothing.

        Whether it may is decided in the ledger (lifecycle/releasing.py), whose turn the caller holds: MLflow's aliases
        know no compare-and-set.
        """
        version = self.version(model, number)
        before = max((known.reign or 0 for known in self.versions(model) if known.number != number), default=0)
        if (version.reign or 0) <= before:
            self._tag(version, PREVIOUS, "" if previous is None else str(previous))
            self._tag(version, REIGN, str(before + 1))
        self._set_alias(model, CHAMPION, number)

    def stamp(self, model: str, number: int, text: str) -> None:
        """Write on a version how it was built anew."""
        self._tag(self.version(model, number), REPRODUCED, text)

    def holder(self, model: str) -> int | None:
        """The number on which the alias champion is, whoever put it there."""
        return self._number(model, CHAMPION)

    def champion(self, model: str) -> Version | None:
        """The version that serves, None while there is none."""
        found = self._holding(model, CHAMPION)
        return None if found is None else _read(found)

    def versions(self, model: str) -> tuple[Version, ...]:
        """Every version of a model, in ascending order."""
        found, token = [], None
        with self._mlflow(f"list the versions of {model}") as client:
            while token is None or token:
                page = client.search_model_versions(f"name = '{model}'", max_results=1000, page_token=token)
                found += [_read(entry) for entry in page if CANDIDATE in entry.tags]
                token = page.token or ""
        return tuple(sorted(found, key=lambda version: version.number))

    def candidate(self, version: Version) -> Candidate:
        """The Candidate that a version holds: whatever is loaded goes through here.

        Raises CorruptBytesError when it is not the one that was registered, or when it has to be signed and is not.
        """
        self.voucher(version)
        found = Candidate.model_validate_json(self._blobs.read(version.record))
        if identity(found) != version.candidate or found.model != version.model:
            raise CorruptBytesError(
                f"{version.model} v{version.number}: the record {version.record} is of another candidate than the tag "
                f"{CANDIDATE} names ({version.candidate}). Somebody changed the registry by hand."
            )
        return found

    def reference_for(self, model: str, partition: str) -> tuple[Version, Candidate] | None:
        """The newest version that has been champion and was not fitted on `partition`."""
        reigned = [version for version in self.versions(model) if version.reign]
        for version in sorted(reigned, key=lambda found: found.reign or 0, reverse=True):
            candidate = self.candidate(version)
            if partition not in candidate.manifest.fitted_partitions:
                return version, candidate
        return None

    def url(self, model: str, number: int | None = None) -> str:
        """Where a browser finds the model, or one version of it."""
        page = f"{settings.MLFLOW_UI.value()}/#/models/{model}"
        return page if number is None else f"{page}/versions/{number}"

    def _signer(self) -> SigningKey | None:
        signer = self._keys.signer()
        if signer is None and self._keys.trust() is not None:
            raise KeyUnavailableError(
                f"{settings.TRUSTED_KEYS.name} says that only what is signed counts, and {settings.SIGNING_KEY.name} "
                "names no key to sign with."
            )
        return signer

    @property
    def _keys(self) -> Keys:
        return Keys(signing=self.signing, trusted=self.trusted)

    @property
    def _blobs(self) -> Blobs:
        return Blobs(root=self.root)

    @contextmanager
    def _mlflow(self, what: str) -> Iterator[MlflowClient]:
        tracking = Tracking(root=self.root, tracking_uri=self.tracking_uri)
        with tracking.asking(what):
            yield tracking.client

    @contextmanager
    def _turn(self, model: str) -> Iterator[None]:
        if is_postgresql(self.ledger):
            with turn(self.ledger, f"registry {model}", PATIENCE_SECONDS):
                yield
            return
        from filelock import FileLock

        folder = Path(self.root)
        if "://" in self.root:
            folder = Path(tempfile.gettempdir()) / f"mlops-assets-{hashlib.sha256(self.root.encode()).hexdigest()[:16]}"
        lock = folder / "locks" / f"registry-{model}.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=PATIENCE_SECONDS):
            yield

    def _holding(self, model: str, alias: str) -> ModelVersion | None:
        """The version that has an alias, None where none has: a third of the work of asking for all aliases."""
        from mlflow import MlflowException

        with self._mlflow(f"give the version of {model} that is {alias}") as client:
            try:
                return client.get_model_version_by_alias(model, alias)
            except MlflowException as error:
                if error.error_code not in NOT_THERE:
                    raise
        return None

    def _number(self, model: str, alias: str) -> int | None:
        found = self._holding(model, alias)
        return None if found is None else int(found.version)

    def _ensure_model(self, model: str) -> None:
        from mlflow import MlflowException

        with self._mlflow(f"register {model}") as client:
            try:
                client.create_registered_model(model)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise

    def _create(self, candidate: Candidate, tags: Mapping[str, str], description: str | None) -> Version:
        record = self._blobs.put_bytes(candidate.model_dump_json().encode())
        with self._mlflow(f"register a version of {candidate.model}") as client:
            created = client.create_model_version(
                candidate.model,
                self._source(candidate, client),
                run_id=candidate.mlflow_run_id,
                tags={**tags, CANDIDATE: identity(candidate), RECORD: record},
                description=description,
                model_id=_logged_model(candidate),
            )
        return _read(created)

    def _source(self, candidate: Candidate, client: MlflowClient) -> str:
        """Where MLflow finds the artifact. A server looks it up itself; the SQL store would ask the global client."""
        model_id = _logged_model(candidate)
        if model_id is None or self.tracking_uri.startswith(("http://", "https://")):
            return candidate.model_uri
        return client.get_logged_model(model_id).artifact_location

    def _link(self, candidate: Candidate, version: Version) -> None:
        """Name the version on the logged model's page, as MLflow's own register_model does."""
        if not (model_id := _logged_model(candidate)):
            return
        entry = json.dumps([{"name": version.model, "version": version.number}])
        with self._mlflow(f"link {candidate.model_uri}") as client:
            client.set_logged_model_tags(model_id, {MODEL_VERSIONS: entry})

    def version(self, model: str, number: int) -> Version:
        """One version of a model. Raises RegistryConflictError where there is none."""
        from mlflow import MlflowException

        with self._mlflow(f"give {model} v{number}") as client:
            try:
                return _read(client.get_model_version(model, str(number)))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
        raise RegistryConflictError(f"{model} v{number} is not in MLflow's registry: it was deleted, or never there.")

    def _tag(self, version: Version, name: str, value: str) -> None:
        with self._mlflow(f"tag {version.model} v{version.number}") as client:
            client.set_model_version_tag(version.model, str(version.number), name, value)

    def _set_alias(self, model: str, alias: str, number: int) -> None:
        if self._number(model, alias) == number:
            return
        with self._mlflow(f"make {model} v{number} {alias}") as client:
            client.set_registered_model_alias(model, alias, str(number))
        if (found := self._number(model, alias)) != number:
            raise RegistryConflictError(f"{model}: alias {alias} was set to v{number} and is v{found}.")


def _logged_model(candidate: Candidate) -> str | None:
    return candidate.model_uri.removeprefix(LOGGED) if candidate.model_uri.startswith(LOGGED) else None


def _statement(version: Version) -> Statement:
    """What a signature of a version has to say."""
    return Statement(model=version.model, version=version.number, candidate=version.candidate, record=version.record)


def _read(entry: ModelVersion) -> Version:
    def number(tag: str) -> int | None:
        return int(text) if (text := entry.tags.get(tag)) else None

    if missing := [tag for tag in (CANDIDATE, RECORD) if tag not in entry.tags]:
        raise RegistryConflictError(
            f"{entry.name} v{entry.version} was not registered here: it lacks the tag {missing[0]}. "
            f"Give its aliases to a version that has it, or delete v{entry.version}."
        )
    return Version(
        model=entry.name,
        number=int(entry.version),
        candidate=entry.tags[CANDIDATE],
        record=entry.tags[RECORD],
        mlflow_run_id=entry.run_id or "",
        reign=number(REIGN),
        previous_champion=number(PREVIOUS),
        tags=entry.tags,
        registered=datetime.fromtimestamp(entry.creation_timestamp / 1000, UTC),
    )
