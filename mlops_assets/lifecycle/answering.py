"""The jobs `approve_release` and `refuse_release`: what a person at the UI says of a version that waits.

A run of Dagster proves nobody: whoever reaches the web server types any field. So the person is known by a signature,
made elsewhere by `mlops-assets approve --sign`, or by the web server's, on the word of the proxy before it.
"""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field, ValidationError

from mlops_assets.lifecycle.approving import STAMP, STARTED_BY, UNDECIDED, Desk, Signed
from mlops_assets.lifecycle.common import Clock, key, utc_now
from mlops_assets.lifecycle.dossier import Dossier
from mlops_assets.ml.approvals import SignedAnswer, Verdict
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.resources.blobs import Blobs
from mlops_assets.resources.keys import Keys
from mlops_assets.resources.ledger import Ledger
from mlops_assets.resources.records import Records
from mlops_assets.resources.registry import CHAMPION, Registry

JOBS: dict[str, Verdict] = {"approve_release": "approved", "refuse_release": "refused"}
NOBODY = (
    "Nobody is known to have started this run: a field that anyone can type proves nothing. Run `{command}` where your "
    "key is; or with --sign, and paste what it prints into the field `signed`; or open Dagster through a proxy that "
    "logs you in. docs/approvals.md says how."
)


class Answer(dg.Config):
    """What a person says of a version, and, where no proxy says who that is, their signature."""

    model: str = Field(description="The model.")
    version: int = Field(description="The version that waits.")
    reason: str = Field(description="Why, for the ledger.")
    signed: str = Field(default="", description="What `mlops-assets approve|refuse ... --sign` printed.")


def answering(specs: Sequence[ModelSpec], clock: Clock = utc_now) -> list[dg.JobDefinition]:
    """The two jobs, of all models."""
    return [_job(name, kind, {spec.name: spec for spec in specs}, clock) for name, kind in JOBS.items()]


def op_of(job: str) -> str:
    """What the step of a job is called, whose configuration a person fills in."""
    return f"{job}_as_a_person"


def _job(name: str, kind: Verdict, specs: dict[str, ModelSpec], clock: Clock) -> dg.JobDefinition:
    @dg.op(name=op_of(name))
    def say(
        context: dg.OpExecutionContext,
        config: Answer,
        records: dg.ResourceParam[Records],
        blobs: Blobs,
        registry: Registry,
        ledger: Ledger,
        keys: Keys,
    ) -> None:
        """Write the answer into the ledger, once it is known whose it is."""
        spec = specs.get(config.model)
        if spec is None:
            raise dg.Failure(f"There is no model {config.model!r}. There are: {', '.join(specs)}.", allow_retries=False)
        desk = Desk(spec, ledger, registry, records, blobs, keys, clock)
        try:
            desk.question(config.version)
            who, signed = _known(context.run, config, kind, keys)
            now = desk.answer(kind, config.version, who, config.reason, signed)
        except UNDECIDED as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        pages = Dossier.at(desk).refresh(config.version)
        said = f"{who} {kind} v{config.version} of {config.model}: {config.reason}"
        context.log.info("%s. %s", said, now.sentence)
        metadata = {"answer": dg.MetadataValue.text(said), "summary": dg.MetadataValue.text(now.sentence), **pages}
        context.log_event(dg.AssetObservation(key(spec, CHAMPION), metadata=metadata))

    @dg.job(name=name, description=f"Say that a version that waits for approval is {kind}.")
    def answer_job() -> None:
        say()

    return answer_job


def _known(run: dg.DagsterRun, config: Answer, kind: str, keys: Keys) -> tuple[str, Signed]:
    """Who says it, and what makes an entry theirs."""
    if config.signed:
        try:
            told = SignedAnswer.model_validate_json(config.signed)
        except ValidationError:
            raise dg.Failure(
                "The field `signed` does not hold what `--sign` printed, which is one line of JSON.",
                allow_retries=False,
            ) from None
        return told.who, told.on
    who, stamp = run.tags.get(STARTED_BY), run.tags.get(STAMP)
    if not (who and stamp and keys.trusted):
        verb = "approve" if kind == "approved" else "refuse"
        command = f"mlops-assets {verb} {config.model} {config.version} --reason ..."
        raise dg.Failure(NOBODY.format(command=command), allow_retries=False)
    key, _, signature = stamp.partition(" ")
    known = {"via": "proxy", "run": run.run_id, "key": key, "signature": signature}
    return who, lambda entry: entry.model_copy(update=known)
