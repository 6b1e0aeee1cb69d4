"""`trained_model`: a candidate, from the partitions that training may see to an MLflow run that holds the model."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd
from dagster_shared.record import replace

from mlops_assets.compute.offers import offers
from mlops_assets.compute.profiles import devices
from mlops_assets.lifecycle.common import compute, describe, key
from mlops_assets.lifecycle.endings import OUTAGE
from mlops_assets.lifecycle.labelled import DRIFT, LABELS, Learnable, learnable, rows_with_target
from mlops_assets.lifecycle.refusing import unrepeated
from mlops_assets.lifecycle.shortage import explained_shortage
from mlops_assets.ml import charts
from mlops_assets.ml.artifacts import UnsafeModelError
from mlops_assets.ml.checkpoints import NOBODY, kept_by
from mlops_assets.ml.code import archive, code_path, code_version, own_modules
from mlops_assets.ml.contracts import inputs, load_contract, pii_columns
from mlops_assets.ml.golden import Golden
from mlops_assets.ml.importing import import_what_stores_models
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.leaks import LeakError
from mlops_assets.ml.resource_card import ResourceCard, Usage, resource_card
from mlops_assets.ml.resource_card import figures as resource_figures
from mlops_assets.ml.resource_card import markdown as resource_table
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import (
    Candidate,
    Choice,
    Fitted,
    Manifest,
    Split,
    TrainingError,
    choose,
    code_files,
    fit,
    lock,
    manifest,
    needed_inputs,
    reasons,
    resumes,
    serving_surroundings,
    splits,
    summary,
    threads,
)
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.blobs import Blobs, write_atomically
from mlops_assets.resources.checkpoints import Checkpoints, StateKeeper
from mlops_assets.resources.metering import Meter
from mlops_assets.resources.places import filesystem
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables
from mlops_assets.resources.tracking import (
    RUN_ID,
    TrackedRun,
    Tracking,
    TrackingUnavailableError,
    fails_in_mlflow_too,
)

VALIDATED = "validated_features"
STANDS = "stands_on_current_data"
SHOWN = 15
FITS = tuple(f"mlops_assets.ml.{name}" for name in ("artifacts", "features", "golden", "holdout", "leaks", "training"))
NETWORK = tuple(f"mlops_assets.ml.{name}" for name in ("tabular", "tabular_fit", "tabular_network", "tabular_rows"))
DECIDES = {"time", "contract", "target", "exclude", "features", "estimator", "seed", "training", "task"}


def training(spec: ModelSpec) -> dg.Definitions:
    """The candidate, learned from all validated partitions in the window but the newest, which judge it."""

    @dg.asset(
        **describe(spec, "training", "scikitlearn", "mlflow"),
        deps=[key(spec, asset) for asset in (VALIDATED, DRIFT, *((LABELS,) if spec.labels else ()))],
        code_version=_code_version(spec),
        **compute(spec, "training"),
        check_specs=[
            dg.AssetCheckSpec(
                STANDS,
                asset=key(spec, "trained_model"),
                description="Nothing that the model learned from was corrected after it had learned from it.",
            )
        ],
    )
    @unrepeated
    def trained_model(
        context: dg.AssetExecutionContext,
        records: dg.ResourceParam[Records],
        tables: Tables,
        blobs: Blobs,
        tracking: Tracking,
        checkpoints: Checkpoints,
    ) -> Iterator[dg.MaterializeResult]:
        """One scikit-learn Pipeline, preprocessing included, in an MLflow run that says all that it was made of."""
        import_what_stores_models()
        try:
            known = learnable(spec, records, spec.training.widest)
            offered = splits(known.parts, spec, known.left_out)
            tracking.reconcile(context.instance)
            with tracking.run(spec.name, context.run.run_id) as run:
                states = _keeper(spec, offered, known, checkpoints)
                with kept_by(states or NOBODY), explained_shortage(spec):
                    choice, fitted, took = _fit(spec, offered, known.labels, tables)
                made_of = manifest(spec, choice.parts, known.labels, known.left_out)
                candidate = _keep(spec, made_of, fitted, took, run, blobs, tracking)
        except TrackingUnavailableError as error:
            raise dg.Failure(f"No model was trained: {error}", metadata={OUTAGE: True}, allow_retries=False) from error
        except (TrainingError, LeakError, UnsafeModelError) as error:
            raise dg.Failure(f"No model was trained: {error}", allow_retries=False) from error
        yield dg.MaterializeResult(
            value=candidate,
            data_version=dg.DataVersion(candidate.model_sha256),
            metadata={
                **_metadata(candidate, fitted, run),
                **_tried(choice),
                **_let_in(candidate, known.let_in),
                **_kept(states),
            },
            check_results=[dg.AssetCheckResult(check_name=STANDS, passed=True)],
        )
        checkpoints.forget(spec.name)

    return dg.Definitions(assets=[trained_model])


def told_to_mlflow(definitions: dg.Definitions) -> dg.Definitions:
    """The same assets and checks, each telling MLflow when its step fails, in whichever job or run it is.

    Dagster's hooks on jobs do not reach the job behind the UI's Materialize button, nor `dg.materialize`.
    """
    hooked = {
        kind: [each.with_hooks({fails_in_mlflow_too}) for each in getattr(definitions, kind) or ()]
        for kind in ("assets", "asset_checks")
    }
    return replace(definitions, **hooked)


def _code_version(spec: ModelSpec) -> str:
    """A digest of what decides the model beside the rows: the declaration, its own code, and the code that fits."""
    declared = spec.model_dump(mode="json", include=DECIDES) | {"world_changed": list(spec.drift.world_changed)}
    own = NETWORK if spec.estimator.path.startswith(NETWORK) else ()
    return code_version(declared, [*own_modules(spec), *FITS, *own])


def _fit(
    spec: ModelSpec, offered: Sequence[Split], labels: Mapping[str, LabelledPartition], tables: Tables
) -> tuple[Choice, Fitted, Usage]:
    """The choice of a window, the model fitted on it, and what both took, from the columns that are needed."""
    contract = load_contract(spec.contract)
    given = needed_inputs(spec, inputs(contract, spec))

    def read(parts: Sequence[ValidatedPartition], *more: str) -> pd.DataFrame:
        return rows_with_target(spec, tables, parts, labels, [*given, *more])

    with Meter(devices(spec.compute.get("training"))) as meter:
        choice = choose(offered, spec, given, lambda parts: read(parts, spec.time.name))
        fitted = fit(read(choice.parts.fitted), spec, given, pii_columns(contract))
        return choice, fitted, meter.usage()


def _keep(
    spec: ModelSpec,
    made_of: Manifest,
    fitted: Fitted,
    took: Usage,
    run: TrackedRun,
    blobs: Blobs,
    tracking: Tracking,
) -> Candidate:
    """Log the model and store what it is judged against later. A model that MLflow does not take is not lost."""
    partitions = len(made_of.fitted_partitions)
    card = resource_card(took, spec.compute.get("training"), offers(), spec.retraining)
    figures = {"fitted_rows": fitted.rows, "fitted_partitions": partitions, "fit_cpu_seconds": took.cpu_seconds}
    try:
        logged = tracking.log_model(run, spec, fitted, made_of, figures | resource_figures(card))
    except TrackingUnavailableError as error:
        kept = blobs.uri(blobs.put_bytes(fitted.content))
        raise dg.Failure(
            f"The model was fitted but not recorded, so it is no candidate: {error} The artifact is kept at {kept}; "
            "materialize trained_model again when MLflow is back, and the same model comes out.",
            metadata={OUTAGE: True, "artifact": dg.MetadataValue.path(kept), "model_sha256": fitted.sha256},
            allow_retries=False,
        ) from error
    _keep_code(spec, made_of, blobs)
    golden = Golden(
        rows=blobs.put_bytes(_parquet(fitted.golden)), answers=fitted.answers, made_in=serving_surroundings(spec)
    )
    return Candidate(
        model=spec.name,
        mlflow_run_id=run.id,
        model_uri=logged.uri,
        model_sha256=fitted.sha256,
        manifest=made_of,
        inputs=tuple(fitted.inputs),
        classes=fitted.classes,
        fitted_rows=fitted.rows,
        importance=fitted.importance,
        reference=blobs.put_bytes(fitted.reference.model_dump_json().encode()),
        reference_sample=blobs.put_bytes(_parquet(fitted.sample)),
        files=logged.files,
        golden=blobs.put_bytes(golden.model_dump_json().encode()),
        cpu_seconds=took.cpu_seconds,
        gpu_seconds=took.devices * took.seconds,
        threads=threads(),
        resources=card,
    )


def _keeper(
    spec: ModelSpec, offered: Sequence[Split], known: Learnable, checkpoints: Checkpoints
) -> StateKeeper | None:
    """Who keeps the states of what is fitted, where the declared estimator can go on from one.

    A training that tries several windows is known by the manifest of the widest.
    """
    if not resumes(spec):
        return None
    widest = max(offered, key=lambda parts: len(parts.fitted))
    return checkpoints.keeper(spec.name, manifest(spec, widest, known.labels, known.left_out).digest())


def _kept(states: StateKeeper | None) -> Mapping[str, Any]:
    """What a person should know of the states that were kept on the way."""
    if states is None:
        return {}
    return {
        "checkpoints_written": states.count,
        "checkpoint_bytes": states.largest,
        "checkpoint_seconds": states.spent,
        "checkpoint_notes": dg.MetadataValue.json(states.said),
    }


def _keep_code(spec: ModelSpec, made_of: Manifest, blobs: Blobs) -> None:
    """Keep the source and the lock that the manifest names by their digests, where they are not kept yet."""
    if (locked := lock()) is not None:
        blobs.put_bytes(locked)
    path = code_path(made_of.code)
    system, base = filesystem(blobs.root)
    if system.get_file_info(f"{base}/{path}").type.name == "NotFound":
        write_atomically(blobs.root, path, [archive(code_files(spec))])


def _metadata(candidate: Candidate, fitted: Fitted, run: TrackedRun) -> Mapping[str, Any]:
    made_of = candidate.manifest
    return {
        "summary": summary(made_of),
        "importance": dg.MetadataValue.md(charts.markdown(_picture(candidate.importance), "importance of each input")),
        "fitted_rows": candidate.fitted_rows,
        "unlabelled_rows": fitted.unlabelled,
        "fitted_partitions": dg.MetadataValue.json(list(made_of.fitted_partitions)),
        "holdout_partitions": dg.MetadataValue.json(list(made_of.holdout_partitions)),
        "left_out": dg.MetadataValue.json(reasons(made_of.left_out)),
        "mlflow_run": dg.MetadataValue.url(run.url),
        RUN_ID: run.id,
        "model_sha256": candidate.model_sha256,
        "model_bytes": len(fitted.content),
        "fit_cpu_seconds": candidate.cpu_seconds,
        **({"fit_gpu_seconds": candidate.gpu_seconds} if candidate.gpu_seconds else {}),
        **_card(candidate.resources),
        "manifest": dg.MetadataValue.json(made_of.model_dump(mode="json")),
    }


def _card(card: ResourceCard | None) -> Mapping[str, Any]:
    """What the training asked for and took, as a table and as figures."""
    if card is None:
        return {}
    return {"resource_card": dg.MetadataValue.md(resource_table(card)), **resource_figures(card)}


def _tried(choice: Choice) -> Mapping[str, Any]:
    """How each window did where several are declared: the loss on the newest partition of fitting."""
    if not choice.losses:
        return {}
    rows = [{"fitted_partitions": size, "loss": f"{loss:.6g}"} for size, loss in choice.losses.items()]
    return {"windows_tried": dg.MetadataValue.table([dg.TableRecord(row) for row in rows])}


def _let_in(candidate: Candidate, reasons: Mapping[str, str]) -> Mapping[str, Any]:
    """What was used though its feed had been blamed, and why."""
    used = {key: reason for key, reason in reasons.items() if key in candidate.manifest.deliveries}
    return {"counted_again": dg.MetadataValue.json(used)} if used else {}


def _picture(importance: Mapping[str, float]) -> str:
    ranked = sorted(importance, key=lambda name: (-importance[name], name))[:SHOWN]
    more = f" (the first {SHOWN} of {len(importance)})" if len(importance) > SHOWN else ""
    return charts.bars(ranked, [importance[name] for name in ranked], title=f"Importance of each input{more}")


def _parquet(rows: pd.DataFrame) -> bytes:
    target = io.BytesIO()
    rows.to_parquet(target, index=False)
    return target.getvalue()
