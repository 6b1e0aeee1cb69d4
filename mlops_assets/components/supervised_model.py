"""The component that turns one declaration into the assets, checks, jobs and sensors of one model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import dagster as dg
from dagster._utils.pydantic_yaml import enrich_validation_errors_with_source_position
from pydantic import RootModel, ValidationError
from pydantic_core import InitErrorDetails

from mlops_assets import settings
from mlops_assets.compute import profiles
from mlops_assets.lifecycle import lifecycle
from mlops_assets.ml.spec import ModelSpec


class Declaration(RootModel[dict[str, Any]]):
    """What a `defs.yaml` says, before its templates are filled in: any field may hold one."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **named: Any) -> dict[str, Any]:
        """The schema of what has to come out, for editors and `dg`."""
        return ModelSpec.model_json_schema(*arguments, **named)


class SupervisedModel(dg.Component):
    """A model that learns a labelled target, from delivered bytes to a registered version and its drift."""

    def __init__(self, spec: ModelSpec) -> None:
        """Wrap a declaration, which may equally have been written in Python."""
        self.spec = spec

    @classmethod
    def get_model_cls(cls) -> type[Declaration]:
        """The attributes as they are written, with the schema of `ModelSpec`."""
        return Declaration

    @classmethod
    def load(cls, attributes: Declaration, context: dg.ComponentLoadContext) -> Self:  # ty: ignore[incompatible-method-override]
        """Fill in every `{{ ... }}`, then validate the result. A refusal names the file and the line."""
        filled = _fill(attributes.root, context.resolution_context.resolve_value)
        tree = context.resolution_context.source_position_tree
        if tree is None:
            return cls(_declared(filled))
        try:
            with enrich_validation_errors_with_source_position(tree.children.get("attributes", tree), ["attributes"]):
                return cls(_declared(filled))
        except ValidationError as error:
            located: Any = error.errors()
        # Dagster adds the line and quotes the value with it, which may be a password.
        raise ValidationError.from_exception_data(ModelSpec.__name__, located, "json", hide_input=True)

    @staticmethod
    @dg.template_var
    def landing() -> str:
        """`{{ landing }}` in a declaration: the folder or URI under which each shipped model finds its deliveries."""
        return settings.landing()

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        """Every stage's assets, checks, jobs and sensors, in lifecycle order."""
        return lifecycle(self.spec)


def _declared(filled: dict[str, Any]) -> ModelSpec:
    """The declaration, whose profiles exist and suit their stages. What refuses them has their place in the file."""
    spec = ModelSpec.model_validate(filled)
    refused: list[InitErrorDetails] = []
    for stage, name in spec.compute.items():
        if reason := profiles.refusal(stage, name):
            context = {"error": ValueError(reason)}
            refused.append({"type": "value_error", "loc": ("compute", stage), "input": name, "ctx": context})
    if refused:
        raise ValidationError.from_exception_data(ModelSpec.__name__, refused, "json", hide_input=True)
    return spec


def _fill(value: Any, resolve: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _fill(item, resolve) for name, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, resolve) for item in value]
    return resolve(value) if isinstance(value, str) and "{{" in value else value
