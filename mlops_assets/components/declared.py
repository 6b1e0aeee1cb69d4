"""Every declared model, and a deep look at each: what it names must exist, be importable and fit together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dagster.components.core.component_tree import ComponentTree

from mlops_assets.components.supervised_model import SupervisedModel
from mlops_assets.ml.freshness import length
from mlops_assets.ml.spec import BehaviourGate, FairnessGate, ModelSpec, SqlSource

if TYPE_CHECKING:
    import pandera.pandas as pandera

IMPORTING = (ImportError, AttributeError, SyntaxError, TypeError, ValueError)


def declared() -> list[ModelSpec]:
    """The declaration of every model under `defs/`, in YAML and in Python."""
    tree = ComponentTree.for_project(Path(__file__).parents[1])
    return [component.spec for component in tree.get_all_components(of_type=SupervisedModel)]


def faults(spec: ModelSpec) -> list[str]:
    """What is wrong with a declaration, each beginning with the field; nothing when all is well."""
    looks: tuple[Callable[[ModelSpec], Iterator[str]], ...] = (
        _contract_faults,
        _label_faults,
        _pipeline_faults,
        _gate_faults,
        _compute_faults,
    )
    return [fault for look in looks for fault in look(spec)]


def warnings(spec: ModelSpec) -> list[str]:
    """What may be meant and is costly, each beginning with the field."""
    return list(_starts_anew(spec))


def _starts_anew(spec: ModelSpec) -> Iterator[str]:
    """Only an estimator that keeps checkpoints goes on where a spot node was taken back."""
    from mlops_assets.compute import profiles
    from mlops_assets.compute.profile import SPOT
    from mlops_assets.ml.features import FeatureError, estimator_class

    name = spec.compute.get("training")
    if name not in profiles.names() or SPOT not in profiles.named(name).capacity:
        return
    try:
        resumes = getattr(estimator_class(spec.estimator.path), "resumes", False)
    except FeatureError:
        return  # the pipeline's own fault says so
    if not resumes:
        yield (
            f"compute.training: {spec.estimator.path} keeps no checkpoints, so on the spot nodes of {name} each "
            "preemption starts its training anew."
        )


def _contract_faults(spec: ModelSpec) -> Iterator[str]:
    import pandera.pandas as pandera

    from mlops_assets.ml.contracts import ContractError, load_contract, refuse_impossible

    try:
        contract = load_contract(spec.contract)
    except IMPORTING as error:
        yield f"contract: {spec.contract} cannot be used: {type(error).__name__}: {error}"
        return
    if not isinstance(contract, pandera.DataFrameSchema):
        yield f"contract: {spec.contract} is no pandera DataFrameModel."
        return
    try:
        refuse_impossible(contract, spec)
    except ContractError as error:
        yield f"contract: {error}"
    yield from _unknown_columns(spec, contract)


def _unknown_columns(spec: ModelSpec, contract: pandera.DataFrameSchema) -> Iterator[str]:
    named = {
        "calendar": spec.calendar,
        "drift.columns": tuple(spec.drift.columns),
        "training.known_in_advance": spec.training.known_in_advance,
    }
    for field, names in named.items():
        for name in names:
            if name not in contract.columns:
                yield f"{field}: {name!r} is not a column of the contract: {', '.join(contract.columns)}."
    if not set(contract.columns) - {spec.target, spec.time.name, *spec.exclude} and not spec.features:
        yield "exclude: no column is left to learn from."


def _label_faults(spec: ModelSpec) -> Iterator[str]:
    """A database is asked again for its newest windows only: labels that come later would never be seen."""
    if spec.labels is None or not isinstance(spec.labels.source, SqlSource):
        return
    needed = math.ceil(timedelta(days=spec.labels.delay_days) / length(spec)) + 1
    if spec.labels.source.lookback < needed:
        yield (
            f"labels.source.lookback: labels come up to {spec.labels.delay_days:g} days after their window, so at "
            f"least the newest {needed} windows have to be looked at again, not {spec.labels.source.lookback}."
        )


def _pipeline_faults(spec: ModelSpec) -> Iterator[str]:
    from sklearn.utils._param_validation import InvalidParameterError

    from mlops_assets.ml.features import FeatureError, pipeline

    try:
        pipeline(spec).named_steps["estimator"]._validate_params()
    except FeatureError as error:
        yield f"estimator or features: {error}"
    except InvalidParameterError as error:
        yield f"estimator.params: {error}"
    except IMPORTING as error:
        yield f"estimator: {spec.estimator.path} cannot be made: {type(error).__name__}: {error}"


def _gate_faults(spec: ModelSpec) -> Iterator[str]:
    """A test of behaviour must be a function, and fairness between groups needs its column."""
    from mlops_assets.ml.features import FeatureError, function

    for gate in spec.gates:
        if isinstance(gate, BehaviourGate):
            try:
                function(gate.behaviour)
            except (FeatureError, *IMPORTING) as error:
                yield f"gates: behaviour {gate.behaviour} cannot be used: {error}"
        if isinstance(gate, FairnessGate):
            yield from _fairness_faults(spec, gate)


def _fairness_faults(spec: ModelSpec, gate: FairnessGate) -> Iterator[str]:
    from mlops_assets.ml.contracts import load_contract

    try:
        columns = load_contract(spec.contract).columns
    except (AttributeError, *IMPORTING):
        return  # the contract's own fault says so
    if gate.between not in columns:
        yield f"gates: fairness between {gate.between!r}, which is not a column of the contract: {', '.join(columns)}."


def _compute_faults(spec: ModelSpec) -> Iterator[str]:
    from mlops_assets.compute import profiles

    for stage, profile in spec.compute.items():
        if reason := profiles.refusal(stage, profile):
            yield f"compute.{stage}: {reason}"
