"""Where steps run: named bundles of CPU, memory, GPU, spot capacity and time, rendered for dagster-k8s."""

from mlops_assets.compute.profiles import names, op_tags

__all__ = ["names", "op_tags"]
