"""A rehearsal of serving: a fresh process that loads models and says what they say of their golden rows.

`python -m mlops_assets.serving.rehearsal FOLDER`: one folder a model in FOLDER, each answered by a file in it. An
error ends the process: whoever started it reads which model was next, and why.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from pydantic import ConfigDict

from mlops_assets.ml.artifacts import load_model, trusted_types
from mlops_assets.ml.golden import Answers, said
from mlops_assets.ml.spec import ModelSpec, Value
from mlops_assets.ml.training import Candidate, serving_surroundings

CANDIDATE, ARTIFACT, ROWS, PERFORMANCE = "candidate.json", "model.skops", "rows.parquet", "performance.json"


class Performance(Value):
    """What a model says of its golden rows here, and in which surroundings. Without golden rows: that it loads."""

    model_config = ConfigDict(ser_json_inf_nan="constants")

    answers: Answers
    made_in: dict[str, str]


def rehearse(folder: Path) -> Performance:
    """Load the model in a folder as serving does, and answer its golden rows."""
    candidate = Candidate.model_validate_json((folder / CANDIDATE).read_bytes())
    spec = ModelSpec.model_validate(candidate.manifest.spec)
    trusted = trusted_types(candidate.manifest.spec)
    pipeline = load_model((folder / ARTIFACT).read_bytes(), candidate.model_sha256, trusted)
    answers: Answers = ()
    if (folder / ROWS).exists():
        answers = said(spec.task, pipeline, pd.read_parquet(folder / ROWS), candidate.inputs)
    return Performance(answers=answers, made_in=serving_surroundings(spec))


def main(folder: Path) -> None:
    """Answer for every model in a folder that has no answer yet."""
    for each in sorted(folder.iterdir()):
        if not (each / PERFORMANCE).exists():
            unfinished = each / "unfinished"
            unfinished.write_text(rehearse(each).model_dump_json())
            unfinished.rename(each / PERFORMANCE)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
