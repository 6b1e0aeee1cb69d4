"""The lifecycle as one plain script, written by someone who measured: the floor. Same stages, nothing unneeded."""

import hashlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from contract import Contract
from pandera.errors import SchemaErrors
from world import CATEGORICAL, NUMERIC

source, home = Path(sys.argv[1]), Path(sys.argv[2])
home.mkdir(parents=True, exist_ok=True)
inputs = NUMERIC + CATEGORICAL


def read(path):
    return pq.read_table(path, read_dictionary=CATEGORICAL).to_pandas()


def psi(reference, current):
    edges = np.unique(np.nanquantile(reference, np.linspace(0.1, 0.9, 9)))
    shares = [
        np.bincount(np.searchsorted(edges, values[~np.isnan(values)]), minlength=len(edges) + 1) / len(values) + 1e-4
        for values in (reference, current)
    ]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


for path in sorted(source.glob("*.parquet")):
    hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copy(path, home / path.name)
    frame = read(path)
    frame["event_time"] = frame.pop("ts").dt.tz_localize("UTC").dt.as_unit("us")
    try:
        frame = Contract.validate(frame, lazy=True)
    except SchemaErrors as errors:
        bad = errors.failure_cases["index"].dropna().unique()
        frame.loc[bad].to_parquet(home / f"quarantine-{path.name}")
        frame = Contract.validate(frame.drop(index=bad), lazy=True)
    frame.to_parquet(home / f"validated-{path.name}", index=False)

from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: E402
from sklearn.inspection import permutation_importance  # noqa: E402
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score  # noqa: E402

paths = sorted(home.glob("validated-*.parquet"))
columns = [*inputs, "target"]
train = pd.concat([pq.read_table(path, columns=columns).to_pandas() for path in paths[:-1]], ignore_index=True)
holdout = pq.read_table(paths[-1], columns=columns).to_pandas()
model = HistGradientBoostingClassifier(max_iter=50, random_state=7, categorical_features="from_dtype")
model.fit(train[inputs], train["target"])
sample = train.sample(min(len(train), 2000), random_state=7)
permutation_importance(model, sample[inputs], sample["target"], n_repeats=5, random_state=7)
score = model.predict_proba(holdout[inputs])[:, 1]
truth = holdout["target"].to_numpy()
random = np.random.default_rng(7)
for _ in range(100):
    rows = random.integers(0, len(truth), len(truth))
    np.abs(truth[rows] - score[rows]).mean()
for rows in holdout.groupby("c0", observed=True).indices.values():
    roc_auc_score(truth[rows], score[rows])
metrics = {
    "roc_auc": roc_auc_score(truth, score), "accuracy": accuracy_score(truth, score > 0.5),
    "f1": f1_score(truth, score > 0.5),
    "log_loss": log_loss(truth, score), "brier": brier_score_loss(truth, score),
}  # fmt: skip

import mlflow  # noqa: E402
import mlflow.sklearn  # noqa: E402
from mlflow.models import infer_signature  # noqa: E402

mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
mlflow.set_experiment("lean")
with mlflow.start_run():
    mlflow.log_params({"max_iter": 50})
    mlflow.log_metrics(metrics)
    mlflow.sklearn.log_model(
        model,
        name="model",
        registered_model_name="lean",
        pip_requirements=["scikit-learn"],
        signature=infer_signature(train[NUMERIC].head()),
        skops_trusted_types=[
            "functools.partial",
            "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
            "sklearn.utils.validation.check_array",
        ],
    )
mlflow.MlflowClient().set_registered_model_alias("lean", "champion", 1)

scores = {column: psi(train[column].to_numpy(), holdout[column].to_numpy()) for column in NUMERIC}
for column in CATEGORICAL:
    counts = [frame[column].value_counts(normalize=True, sort=False) + 1e-4 for frame in (train, holdout)]
    scores[column] = float(((counts[1] - counts[0]) * np.log(counts[1] / counts[0])).sum())

from evidently import Report  # noqa: E402
from evidently.metrics import ValueDrift  # noqa: E402

sides = [frame[inputs].sample(min(len(frame), 5000), random_state=7) for frame in (holdout, train)]
report = Report([ValueDrift(column=column) for column in inputs]).run(current_data=sides[0], reference_data=sides[1])
report.save_html(str(home / "drift.html"))
