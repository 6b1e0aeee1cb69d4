"""Where the files under deploy/ are, and how they are read."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
ENVIRONMENTS = ("dev", "staging", "prod")
PROVIDERS = ("eks", "gke", "aks")


@cache
def read(path: str) -> Any:
    """One YAML document below deploy/, read once and not to be changed."""
    return yaml.load((DEPLOY / path).read_text(), Loader=yaml.CSafeLoader)


def read_all(path: str) -> list[dict[str, Any]]:
    """Every YAML document of a file below deploy/."""
    return [found for found in yaml.load_all((DEPLOY / path).read_text(), Loader=yaml.CSafeLoader) if found]


def over(under: Any, above: Any) -> Any:
    """Values as Helm lays them over each other: maps merge, null takes a key away, all else is replaced."""
    if not (isinstance(under, dict) and isinstance(above, dict)):
        return above
    merged = {**under, **{key: over(under.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in merged.items() if value is not None}
