"""The YAML face of the project: what a `defs.yaml` may name as its type."""

from mlops_assets.components.supervised_model import SupervisedModel

__all__ = ["SupervisedModel"]
