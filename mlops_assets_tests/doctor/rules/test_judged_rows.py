import pytest

from mlops_assets_tests.doctor.writing import found, marked

HEAD = """
import dagster as dg
import lightgbm as lgb
import pandas as pd
import sklearn.preprocessing as prep
import xgboost as xgb
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest as Best
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score as right
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split as halve
from sklearn.pipeline import Pipeline, make_pipeline

"""
FOUND = {
    "scaled before the split": """
        @dg.asset
        def model(X, y):
            scaler = prep.StandardScaler()
            scaled = scaler.fit_transform(X)  # <-
            X_train, X_test, y_train, y_test = halve(scaled, y, random_state=1)
            return LogisticRegression().fit(X_train, y_train)
        """,
    "scaled in place": """
        @dg.asset
        def model(rows):
            rows[["a", "b"]] = prep.MinMaxScaler().fit_transform(rows[["a", "b"]])  # <-
            features = rows.drop(columns="y")
            return halve(features, rows["y"], random_state=1)
        """,
    "fitted, then transformed": """
        @dg.asset
        def model(X, y):
            best = Best(k=3)
            best.fit(X, y)  # <-
            chosen = best.transform(X)
            return cross_val_score(LogisticRegression(), chosen, y)
        """,
    "in a pipeline": """
        @dg.asset
        def model(X, y):
            numbers = Pipeline([("fill", SimpleImputer()), ("scale", prep.StandardScaler())])
            prepared = ColumnTransformer([("numbers", numbers, ["a"])]).fit_transform(X)  # <-
            return halve(prepared, y, random_state=1)
        """,
    "in another asset": """
        @dg.asset
        def features(X):
            return pd.DataFrame(prep.RobustScaler().fit_transform(X))  # <-

        @dg.multi_asset(outs={"train": dg.AssetOut(), "test": dg.AssetOut()})
        def split(features):
            return tuple(halve(features, random_state=1))
        """,
    "in a helper": """
        def filled(X):
            return SimpleImputer().fit_transform(X)  # <-

        @dg.asset
        def split(X):
            return halve(filled(X), random_state=1)
        """,
    "a search on the test rows": """
        @dg.asset
        def model(X_test, y_test):
            return GridSearchCV(LogisticRegression(), {}).fit(X_test, y_test)  # <-
        """,
    "early stopping by the test rows": """
        @dg.asset
        def model(X_train, y_train, X_test, y_test):
            model = xgb.XGBClassifier(early_stopping_rounds=10)
            return model.fit(X_train, y_train, eval_set=[(X_test, y_test)])  # <-
        """,
    "early stopping by wrapped test rows": """
        @dg.asset
        def model(X_train, y_train, X_test, y_test):
            judge = lgb.Dataset(X_test, y_test)
            return lgb.train({}, lgb.Dataset(X_train), valid_sets=[judge], callbacks=[lgb.early_stopping(9)])  # <-
        """,
    "a loop that keeps the best on the test rows": """
        @dg.asset
        def model(X_train, y_train, X_test, y_test):
            best, best_score = None, 0
            for c in (0.1, 1, 10):
                fitted = LogisticRegression(C=c).fit(X_train, y_train)
                score = right(y_test, fitted.predict(X_test))  # <-
                if score > best_score:
                    best, best_score = fitted, score
            return best
        """,
    "an objective on the test rows": """
        def objective(trial):
            fitted = LogisticRegression(C=trial.suggest_float("C", 0, 1)).fit(X_train, y_train)
            return fitted.score(X_test, y_test)  # <-
        """,
}
NOT_FOUND = {
    "split first": """
        @dg.asset
        def model(X, y):
            X_train, X_test, y_train, y_test = halve(X, y, random_state=1)
            scaler = prep.StandardScaler()
            X_train = scaler.fit_transform(X_train)
            X_fit, X_valid = halve(X_train, random_state=1)
            return scaler.transform(X_test)
        """,
    "a scaler in the pipeline that is cross-validated": """
        @dg.asset
        def model(X, y):
            return cross_val_score(make_pipeline(prep.StandardScaler(), LogisticRegression()), X, y)
        """,
    "codes for labels learn nothing from values": """
        @dg.asset
        def model(X, y):
            codes = prep.LabelEncoder().fit_transform(y)
            return halve(X, codes, random_state=1)
        """,
    "scaled from training rows in another asset": """
        @dg.asset
        def features(train_rows):
            return prep.StandardScaler().fit_transform(train_rows)

        @dg.asset
        def split(features):
            return halve(features, random_state=1)
        """,
    "early stopping by validation rows": """
        @dg.asset
        def model(X_train, y_train, X_val, y_val, X_test, y_test):
            model = xgb.XGBClassifier(early_stopping_rounds=10)
            model.fit(X_train, y_train, eval_set=[(X_val, y_val)])
            return model.score(X_test, y_test)
        """,
    "the test rows are watched, and nothing stops by them": """
        @dg.asset
        def model(X_train, y_train, X_test, y_test):
            return xgb.XGBClassifier().fit(X_train, y_train, eval_set=[(X_test, y_test)])
        """,
    "several models are scored and none is chosen": """
        @dg.asset
        def scores(X_train, y_train, X_test, y_test):
            return [LogisticRegression(C=c).fit(X_train, y_train).score(X_test, y_test) for c in (1, 2)]
        """,
}


def _text(body: str) -> str:
    from textwrap import dedent

    return HEAD + dedent(body)


@pytest.mark.parametrize("body", FOUND.values(), ids=FOUND)
def test_a_say_of_the_rows_that_judge_is_found(tmp_path, body):
    assert found(tmp_path, _text(body)) == marked("judged-rows", _text(body))


@pytest.mark.parametrize("body", NOT_FOUND.values(), ids=NOT_FOUND)
def test_learning_from_training_rows_only_is_not(tmp_path, body):
    assert found(tmp_path, _text(body)) == []
