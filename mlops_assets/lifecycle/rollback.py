"""`rollback_drill`, which proves every day that going back would work, and the job that goes back."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from mlops_assets.lifecycle.common import DRILL, Clock, compute, describe, key, utc_now
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.proving import Proof, proofs, proves
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.releasing import roll_back
from mlops_assets.ml.code import code_version
from mlops_assets.ml.ledger import Reign, champion, reigns
from mlops_assets.ml.spec import ModelSpec, Value, digest_of
from mlops_assets.resources.blobs import Blobs, CorruptBytesError
from mlops_assets.resources.ledger import BrokenLedgerError, Ledger, LedgerUnavailableError
from mlops_assets.resources.registry import CHAMPION, Registry, RegistryConflictError
from mlops_assets.resources.tracking import Tracking, TrackingUnavailableError

CAN_GO_BACK = "can_go_back"
DAILY = "0 4 * * *"
LOOKS = [f"mlops_assets.{name}" for name in ("ml.artifacts", "ml.golden", "serving.rehearsal", "lifecycle.proving")]


class RollbackDrill(Value):
    """What a drill found out about the last champions of a model, the newest first."""

    model: str
    proofs: tuple[Proof, ...]
    sentence: str


class GoBack(dg.Config):
    """What a person says who goes back: of which model, to which earlier champion, who and why."""

    model: str = Field(description="The model whose champion is to go.")
    person: str = Field(min_length=1, description="Who goes back, for the ledger.")
    reason: str = Field(min_length=1, description="Why, for the ledger.")
    to: int | None = Field(default=None, description="An earlier champion; the one before this where it is not given.")


def rollback(spec: ModelSpec) -> dg.Definitions:
    """The drill of a model, and the check that says whether going back would work today."""

    @dg.asset(
        name=DRILL,
        **describe(spec, "registration", "scikitlearn", "mlflow"),
        deps=[key(spec, CHAMPION)],
        code_version=code_version(spec.rollback.model_dump(mode="json"), LOOKS),
        **compute(spec, "registration"),
        check_specs=[
            dg.AssetCheckSpec(
                CAN_GO_BACK,
                asset=key(spec, DRILL),
                description="Each of the last champions is what was registered, loads where models serve, and says "
                "of its golden rows what it said then.",
            )
        ],
    )
    @unrepeated
    def drill(registry: Registry, tracking: Tracking, blobs: Blobs, ledger: Ledger) -> Iterator[dg.MaterializeResult]:
        """Load the last champions in a fresh process, and compare what they say with what they said."""
        try:
            past = reigns(ledger.links(spec.name), spec.name)
            if not past:
                raise dg.Failure(f"{spec.name} has no champion yet: there is nothing to prove.", allow_retries=False)
            versions = _last(past, spec.rollback.champions)
            record = _record(spec, proofs(spec.name, versions, past, registry, tracking, blobs))
        except (TrackingUnavailableError, LedgerUnavailableError) as error:
            why = f"Whether {spec.name} can go back is not known: {error}"
            raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
        wrong = [f"v{each.version}: {each.wrong}" for each in record.proofs if each.wrong]
        yield dg.MaterializeResult(
            value=record,
            data_version=dg.DataVersion(digest_of([each.model_dump() for each in record.proofs])),
            metadata=_metadata(record),
            check_results=[
                dg.AssetCheckResult(check_name=CAN_GO_BACK, passed=not wrong, description="\n".join(wrong) or None)
            ],
        )

    return dg.Definitions(assets=[drill])


def drills(specs: Sequence[ModelSpec]) -> dg.ScheduleDefinition:
    """One schedule for all models: once a day one run, of the drills of those that have a champion."""

    @dg.schedule(
        name="rollback_drills",
        target=dg.AssetSelection.assets(*(key(spec, DRILL) for spec in specs)),
        cron_schedule=DAILY,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Proves every day, for every model, that its last champions could serve again.",
    )
    def daily(ledger: Ledger) -> dg.RunRequest | dg.SkipReason:
        """One look at the ledger, however many models there are."""
        links = ledger.links()
        reigning = [spec for spec in specs if champion(links, spec.name)]
        if not reigning:
            return dg.SkipReason("No model has a champion yet.")
        return dg.RunRequest(asset_selection=[key(spec, DRILL) for spec in reigning])

    return daily


def rollback_job(clock: Clock = utc_now) -> dg.JobDefinition:
    """The job of the launchpad that makes an earlier champion serve again."""

    @dg.op(description="Prove that the earlier champion can serve, then make it champion by an entry in the ledger.")
    def go_back(
        context: dg.OpExecutionContext,
        config: GoBack,
        registry: Registry,
        tracking: Tracking,
        blobs: Blobs,
        ledger: Ledger,
    ) -> None:
        """Without training, recorded, and refused where what is there cannot serve."""
        who = f"{config.person} (as typed in run {context.run_id})"
        prove = proves(registry, tracking, blobs)
        try:
            reign = roll_back(config.model, config.to, who, config.reason, ledger, registry, clock, prove)
        except (TrackingUnavailableError, LedgerUnavailableError) as error:
            why = f"{config.model} did not go back: {error}"
            raise dg.Failure(why, metadata={OUTAGE: True}, allow_retries=False) from error
        except (BrokenLedgerError, CorruptBytesError, RegistryConflictError) as error:
            raise dg.Failure(f"{config.model} did not go back: {error}", allow_retries=False) from error
        said = f"v{reign.version} is champion again, instead of v{reign.previous}: {config.reason}"
        metadata: dict[str, Any] = {"summary": said, "version": reign.version, "ledger_entry": reign.sequence}
        context.log_event(dg.AssetObservation(dg.AssetKey([config.model, CHAMPION]), said, metadata=metadata))

    @dg.job(
        name="rollback",
        description="Make an earlier champion of a model serve again: at once, without training, and on record.",
    )
    def going_back() -> None:
        go_back()

    return going_back


def _last(past: Sequence[Reign], count: int) -> list[int]:
    """The last versions that were champion, the newest first, each once."""
    return list(dict.fromkeys(reign.version for reign in reversed(past)))[:count]


def _record(spec: ModelSpec, found: Sequence[Proof]) -> RollbackDrill:
    fit = [f"v{each.version}" for each in found[1:] if each.wrong is None]
    unfit = [f"v{each.version}" for each in found if each.wrong is not None]
    back = (
        f"{spec.name} can go back to {', '.join(fit)} today." if fit else f"{spec.name} cannot go back to any version."
    )
    if len(found) == 1:
        back = f"{spec.name} has had one champion: there is none to go back to."
    said = f"{back} Unfit to serve: {', '.join(unfit)}." if unfit else back
    return RollbackDrill(model=spec.name, proofs=tuple(found), sentence=said)


def _metadata(record: RollbackDrill) -> dict[str, Any]:
    rows = [
        {
            "version": f"v{each.version}",
            "fit": each.wrong is None,
            "found": each.wrong or each.said,
            "candidate": each.candidate or "unknown",
            "signed_by": each.signed_by or "nobody",
        }
        for each in record.proofs
    ]
    return {
        "summary": dg.MetadataValue.text(record.sentence),
        "champions": dg.MetadataValue.table([dg.TableRecord(row) for row in rows]),
    }
