"""Whether a version could serve today: its signature, its bytes, and what it says of its golden rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.golden import Golden, changes, different
from mlops_assets.ml.ledger import Reign
from mlops_assets.ml.spec import Value
from mlops_assets.ml.training import Candidate
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.registry import Registry, RegistryConflictError, Version
from mlops_assets.resources.rehearsals import Part, rehearse
from mlops_assets.resources.tracking import Tracking
from mlops_assets.serving.rehearsal import Performance

NO_GOLDEN = "It loads. It was registered before golden rows were kept: what it says is compared with nothing."


class UnfitError(RegistryConflictError):
    """A version that cannot serve as it stands in the registry, and why."""


class Proof(Value):
    """What was found out about a version: its model by SHA-256, who signed it, what is wrong or what was compared."""

    version: int
    candidate: str | None = None
    signed_by: str | None = None
    wrong: str | None = None
    said: str = ""


Prove = Callable[[str, int, Sequence[Reign]], None]
"""Raises UnfitError where a version of a model, which has this history, could not serve."""


def proves(registry: Registry, tracking: Tracking, blobs: Blobs) -> Prove:
    """The proof that a rollback asks for before anything moves."""

    def prove(model: str, version: int, past: Sequence[Reign]) -> None:
        """Look at one version as the drill does."""
        [found] = proofs(model, [version], past, registry, tracking, blobs)
        if found.wrong:
            raise UnfitError(
                f"{model} v{version} cannot serve: {found.wrong} Nothing was changed. "
                "docs/rollback.md says what is left to do."
            )

    return prove


def proofs(
    model: str,
    versions: Sequence[int],
    past: Iterable[Reign],
    registry: Registry,
    tracking: Tracking,
    blobs: Blobs,
) -> list[Proof]:
    """Whether each version could serve now. Raises TrackingUnavailableError where MLflow cannot be asked."""
    released = {reign.version: reign.evidence["model"] for reign in past if "model" in reign.evidence}
    found: dict[int, Proof] = {}
    parts: dict[int, Part] = {}
    golden: dict[int, Golden] = {}
    signed: dict[int, str | None] = {}
    for number in versions:
        try:
            version = registry.version(model, number)
            signed[number] = registry.voucher(version)
            candidate = registry.candidate(version)
            _refuse_another(version, candidate, released)
            rows = None
            if candidate.golden is not None:
                golden[number] = Golden.model_validate_json(blobs.read(candidate.golden))
                rows = blobs.read(golden[number].rows)
            parts[number] = Part(candidate, tracking.artifact(candidate), rows)
        except (CorruptBytesError, RegistryConflictError, UnsafeModelError) as error:
            found[number] = Proof(version=number, wrong=str(error))
    for number, performance in rehearse(parts).items():
        candidate = parts[number].candidate
        about = Proof(version=number, candidate=candidate.model_sha256, signed_by=signed[number])
        found[number] = _judged(about, candidate, golden.get(number), performance)
    return [found[number] for number in versions]


def _refuse_another(version: Version, candidate: Candidate, released: Mapping[int, str]) -> None:
    """Raises RegistryConflictError where the registry names another model than was released under this number."""
    sha256 = released.get(version.number, candidate.model_sha256)
    if candidate.model_sha256 != sha256:
        raise RegistryConflictError(
            f"the registry says that it is the model {candidate.model_sha256}, and {sha256} was released as "
            f"v{version.number}: somebody changed the registry by hand."
        )


def _judged(about: Proof, candidate: Candidate, golden: Golden | None, performance: Performance | str) -> Proof:
    """The proof with what was heard of the process that loaded the version."""
    if isinstance(performance, str):
        return about.model_copy(
            update={"wrong": f"{candidate.model_uri} does not load where models serve: {performance}"}
        )
    if golden is None:
        return about.model_copy(update={"said": NO_GOLDEN})
    if wrong := different(golden, performance.answers, performance.made_in):
        return about.model_copy(update={"wrong": f"{candidate.model_uri} says something else than it did: {wrong}"})
    changed = changes(golden, performance.made_in)
    how = f"as it did within a millionth; {changed}" if changed else "with the same bits as when it was made"
    return about.model_copy(update={"said": f"It answers its {len(golden.answers)} golden rows {how}."})
