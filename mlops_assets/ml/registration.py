"""Whether a candidate may be registered, and whether it takes the champion's place. Pure decisions with reasons."""

from __future__ import annotations

from mlops_assets.ml.spec import Value


class RegisteredVersion(Value):
    """A numbered version in the registry, the candidate it holds, and the alias it was given and why."""

    model: str
    version: int
    candidate: str
    mlflow_run_id: str
    became_champion: bool
    previous_champion: int | None
    sentence: str
