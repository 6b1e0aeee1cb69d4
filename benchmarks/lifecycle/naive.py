"""The lifecycle as one plain script, written as most people would on a first day: same stages, defaults everywhere."""

import hashlib
import shutil
import sys
from pathlib import Path

import mlflow
import mlflow.sklearn
import numpy as np
import pandas as pd
from contract import Contract
from evidently import Report
from evidently.presets import DataDriftPreset
from pandera.errors import SchemaErrors
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.inspection import permutation_importance
from sklearn.metrics import accuracy_score, brier_score_loss, f1_score, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder
from world import CATEGORICAL, NUMERIC

source, home = Path(sys.argv[1]), Path(sys.argv[2])
home.mkdir(parents=True, exist_ok=True)
frames = []
for path in sorted(source.glob("*.parquet")):
    hashlib.sha256(path.read_bytes()).hexdigest()
    shutil.copy(path, home / path.name)
    frame = pd.read_parquet(path)
    frame["event_time"] = pd.to_datetime(frame.pop("ts"), utc=True).dt.as_unit("us")
    try:
        frame = Contract.validate(frame, lazy=True)
    except SchemaErrors as errors:
        bad = errors.failure_cases["index"].dropna().unique()
        frame.loc[bad].to_parquet(home / f"quarantine-{path.name}")
        frame = Contract.validate(frame.drop(index=bad), lazy=True)
    frame.to_parquet(home / f"validated-{path.name}")
    frames.append(pd.read_parquet(home / f"validated-{path.name}"))

train, holdout = pd.concat(frames[:-1]), frames[-1]
inputs = NUMERIC + CATEGORICAL
encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
mlflow.set_experiment("naive")
with mlflow.start_run():
    model = make_pipeline(
        make_column_transformer((encoder, CATEGORICAL), remainder="passthrough"),
        HistGradientBoostingClassifier(max_iter=50, random_state=7),
    )
    model.fit(train[inputs], train["target"])
    sample = train.sample(min(len(train), 2000), random_state=7)
    permutation_importance(model, sample[inputs], sample["target"], n_repeats=5, random_state=7)
    score = model.predict_proba(holdout[inputs])[:, 1]
    truth = holdout["target"].to_numpy()
    random = np.random.default_rng(7)
    for _ in range(100):
        rows = random.integers(0, len(truth), len(truth))
        roc_auc_score(truth[rows], score[rows])
    for column in CATEGORICAL[:1]:
        for _, part in holdout.groupby(column, observed=True):
            roc_auc_score(part["target"], model.predict_proba(part[inputs])[:, 1])
    mlflow.log_params({"max_iter": 50})
    mlflow.log_metrics({
        "roc_auc": roc_auc_score(truth, score), "accuracy": accuracy_score(truth, score > 0.5),
        "f1": f1_score(truth, score > 0.5),
        "log_loss": log_loss(truth, score), "brier": brier_score_loss(truth, score),
    })  # fmt: skip
    mlflow.sklearn.log_model(
        model,
        name="model",
        registered_model_name="naive",
        input_example=train[inputs].head(),
        skops_trusted_types=["sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"],
    )
mlflow.MlflowClient().set_registered_model_alias("naive", "champion", 1)
report = Report([DataDriftPreset()]).run(current_data=holdout[inputs], reference_data=train[inputs])
report.save_html(str(home / "drift.html"))
