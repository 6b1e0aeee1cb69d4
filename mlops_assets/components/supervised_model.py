"""The component that turns one declaration into the assets, checks, jobs and sensors of one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import dagster as dg

from mlops_assets import settings
from mlops_assets.lifecycle import STAGES
from mlops_assets.lifecycle.training import told_to_mlflow
from mlops_assets.ml.spec import ModelSpec


class SupervisedModel(dg.Component):
    """A model that learns a labelled target, from delivered bytes to a registered version and its drift."""

    def __init__(self, spec: ModelSpec) -> None:
        """Wrap a declaration, which may equally have been written in Python."""
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[ModelSpec]:
        """The YAML's schema is the pure `ModelSpec` itself."""
        return ModelSpec

    @classmethod
    def load(cls, attributes: ModelSpec, context: dg.ComponentLoadContext) -> Self:  # ty: ignore[incompatible-method-override]
        """Fill in every `{{ ... }}`, then validate the result."""
        filled = _fill(attributes.model_dump(exclude_unset=True), context.resolution_context.resolve_value)
        return cls(ModelSpec.model_validate(filled))

    @staticmethod
    @dg.template_var
    def landing() -> str:
        """`{{ landing }}` in a declaration: the folder or URI under which each shipped model finds its deliveries."""
        return settings.landing()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """Every stage's assets, checks, jobs and sensors, in lifecycle order."""
        return told_to_mlflow(dg.Definitions.merge(*(stage(self.spec) for stage in STAGES)))


def _fill(value: Any, resolve: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _fill(item, resolve) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_fill(item, resolve) for item in value]
    return resolve(value) if isinstance(value, str) and "{{" in value else value
