"""Features: the declared steps as the first steps of the scikit-learn Pipeline that training and serving share.

It imports scikit-learn, which costs seconds: import it inside functions.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType
from typing import Any, Self

import numpy as np
import pandas as pd

from mlops_assets.ml.importing import for_good
from mlops_assets.ml.spec import CalendarPart, ModelSpec

with for_good():
    from sklearn.base import BaseEstimator, is_classifier, is_regressor  # the bases of the classes below
    from sklearn.pipeline import Pipeline

OTHER = "other"
NATIVE = ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
NATIVE_PACKAGES = ("lightgbm", "xgboost")
EPOCH = pd.Timestamp("1970-01-01", tz="UTC")
PERIODS: dict[CalendarPart, tuple[int, float]] = {
    "hour": (0, 24),
    "weekday": (0, 7),
    "day": (1, 31),
    "dayofyear": (1, 365.25),
    "week": (1, 365.25 / 7),
    "month": (1, 12),
    "quarter": (1, 4),
}
PROBES = 32


class FeatureError(ValueError):
    """The declared features or estimator do not fit the data or each other."""


def pipeline(spec: ModelSpec) -> Pipeline:
    """The unfitted Pipeline of a declaration: feature steps, capped categories, preprocessing, estimator."""
    estimator = _estimator(spec)
    steps: list[tuple[str, Any]] = [
        ("features", _row_features(spec)),
        ("categories", CappedCategories(limit=spec.estimator.max_categories)),
    ]
    if not _is_native(estimator):
        steps.append(("encoding", _encoding(estimator)))
    return Pipeline([*steps, ("estimator", estimator)])


def function(path: str) -> FunctionType:
    """The function that a feature step, or a test of behaviour, names."""
    found = _import(path)
    if not isinstance(found, FunctionType):
        raise FeatureError(f"{path} is not a function.")
    return found


def estimator_class(path: str) -> type[BaseEstimator]:
    """The class that a declaration names as its estimator."""
    found = _import(path)
    if not isinstance(found, type) or not hasattr(found, "get_params"):
        raise FeatureError(f"{path} is not a scikit-learn estimator.")
    return found


class RowFeatures(BaseEstimator):
    """Columns computed row by row from the same row: parts of the time, and declared functions. The time is dropped.

    Times without a zone are UTC: MLflow's servers take no others. A function is given the input columns and its
    parameters, and returns new columns with the same index. One that looks at other rows is refused when fitted: its
    result in serving, row by row, would differ.
    """

    def __init__(
        self,
        time: str,
        timezone: str = "UTC",
        calendar: Sequence[CalendarPart] = (),
        cyclic: Sequence[CalendarPart] = (),
        functions: Sequence[tuple[FunctionType, dict[str, Any]]] = (),
    ) -> None:
        self.time = time
        self.timezone = timezone
        self.calendar = calendar
        self.cyclic = cyclic
        self.functions = functions

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Self:  # noqa: ARG002
        """Remember which columns there are, and refuse functions that look at other rows."""
        self.columns_ = list(rows.columns)
        if self.functions and len(rows) > 1:
            probes = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, PROBES).astype(int))]
            for derive, params in self.functions:
                _refuse_neighbours(derive, params, probes)
        return self

    def fit_transform(self, rows: pd.DataFrame, target: Any = None) -> pd.DataFrame:
        """`fit`, then `transform`."""
        return self.fit(rows, target).transform(rows)

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The input columns without the time, and the computed ones. The input is left alone."""
        missing = [name for name in self.columns_ if name not in rows.columns]
        if missing:
            raise FeatureError(f"The rows lack {', '.join(missing)}, which the model has learned from.")
        columns = {name: rows[name] for name in self.columns_ if name != self.time}
        if self.calendar or self.cyclic:
            columns |= _calendar(_local(rows[self.time], self.timezone), self.calendar, self.cyclic)
        for derive, params in self.functions:
            made = _called(derive, params, rows[self.columns_])
            clash = [name for name in made.columns if name in columns]
            if clash:
                raise FeatureError(f"{_name(derive)} returns {', '.join(clash)}, which exists already: rename it.")
            columns |= {name: made[name] for name in made.columns}
        return pd.DataFrame(columns, index=rows.index, copy=False)


class CappedCategories(BaseEstimator):
    """Numbers as they are, and text as one of at most `limit` categories: the most frequent when fitted, or `other`.

    A category column comes out with the fixed categories 0, 1, 2, ...: the positions in `categories_[column]`, whose
    last entry is `other`. Integers, because estimators encode them several times faster than text.
    """

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit

    def fit(self, rows: pd.DataFrame, target: Any = None) -> Self:  # noqa: ARG002
        """Learn which categories each text column keeps; ties go to the first in the alphabet."""
        moments = [name for name in rows.columns if rows[name].dtype.kind in "mM"]
        if moments:
            raise FeatureError(f"{', '.join(moments)}: moments are no numbers; derive features or add them to exclude.")
        self.categories_ = {
            name: _most_frequent(rows[name], self.limit) for name in rows.columns if _is_text(rows[name])
        }
        return self

    def fit_transform(self, rows: pd.DataFrame, target: Any = None) -> pd.DataFrame:
        """`fit`, then `transform`."""
        return self.fit(rows, target).transform(rows)

    def transform(self, rows: pd.DataFrame) -> pd.DataFrame:
        """The same columns, as numbers with NaN for what is missing and as categories."""
        columns = {
            name: _capped(rows[name], self.categories_[name]) if name in self.categories_ else _numbers(rows[name])
            for name in rows.columns
        }
        return pd.DataFrame(columns, index=rows.index, copy=False)


def _estimator(spec: ModelSpec) -> BaseEstimator:
    path, params, kind = spec.estimator.path, spec.estimator.params, estimator_class(spec.estimator.path)
    known = kind().get_params(deep=False)
    signature = inspect.signature(kind.__init__)
    open_ended = any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values())
    unknown = [name for name in params if name not in known]
    if unknown and not open_ended:
        raise FeatureError(f"{spec.name}: {path} has no {', '.join(unknown)}. Allowed: {', '.join(sorted(known))}.")
    ours = {
        "random_state": spec.seed,
        "categorical_features": "from_dtype",
        "enable_categorical": True,
        "time_ordered": True,
    }
    estimator = kind(**{name: value for name, value in ours.items() if name in known} | params)
    if not (is_regressor if spec.task == "regression" else is_classifier)(estimator):
        raise FeatureError(f"{spec.name}: {path} is no estimator for {spec.task}.")
    if spec.task != "regression" and not hasattr(estimator, "predict_proba"):
        raise FeatureError(f"{spec.name}: {path} has no predict_proba, which {spec.task} is judged by.")
    return estimator


def _is_native(estimator: BaseEstimator) -> bool:
    """Whether the estimator takes missing values and categories as they are, as its tags say or we know."""
    kind, takes = type(estimator), estimator.__sklearn_tags__().input_tags
    if takes.categorical and takes.allow_nan:
        return True
    return kind.__name__ in NATIVE or kind.__module__.partition(".")[0] in NATIVE_PACKAGES


def _encoding(estimator: BaseEstimator) -> BaseEstimator:
    """Medians for missing numbers, then one scale; a column of zeros and ones for each category."""
    from sklearn.compose import ColumnTransformer, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = Pipeline(
        [
            ("impute", SimpleImputer(strategy="median", keep_empty_features=True)),
            ("scale", StandardScaler()),
        ]
    )
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=estimator.__sklearn_tags__().input_tags.sparse)
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_include="category")),
        ]
    )


def _row_features(spec: ModelSpec) -> RowFeatures:
    unfit = [part for step in spec.features for part in step.cyclic if part not in PERIODS]
    if unfit:
        raise FeatureError(f"{spec.name}: {', '.join(unfit)} never comes round again: use calendar, not cyclic.")
    return RowFeatures(
        time=spec.time.name,
        timezone=spec.time.timezone,
        calendar=[part for step in spec.features for part in step.calendar],
        cyclic=[part for step in spec.features for part in step.cyclic],
        functions=[(function(step.path), step.params) for step in spec.features if step.path is not None],
    )


def _local(times: pd.Series, timezone: str) -> pd.Series:
    aware = times.dt.tz_localize("UTC") if times.dt.tz is None else times
    return aware.dt.tz_convert(timezone)


def _calendar(
    times: pd.Series, calendar: Sequence[CalendarPart], cyclic: Sequence[CalendarPart]
) -> dict[str, np.ndarray]:
    """The parts of local time as numbers, and the cyclic ones as a point on a circle."""
    parts = {part: _part(times, part) for part in dict.fromkeys([*calendar, *cyclic])}
    columns = {f"{times.name}_{part}": parts[part] for part in calendar}
    for part in cyclic:
        first, period = PERIODS[part]
        angle = (parts[part] - first) * (2 * np.pi / period)
        columns |= {f"{times.name}_{part}_sin": np.sin(angle), f"{times.name}_{part}_cos": np.cos(angle)}
    return columns


def _part(times: pd.Series, part: CalendarPart) -> np.ndarray:
    if part == "elapsed_days":
        values = (times - EPOCH) / pd.Timedelta(days=1)
    elif part == "week":
        values = times.dt.isocalendar().week
    else:
        values = getattr(times.dt, part)
    return values.to_numpy(np.float64, na_value=np.nan)


def _called(derive: FunctionType, params: Mapping[str, Any], rows: pd.DataFrame) -> pd.DataFrame:
    made = derive(rows.copy(deep=False), **params)
    if not isinstance(made, pd.DataFrame) or not made.index.equals(rows.index):
        raise FeatureError(f"{_name(derive)} must return a DataFrame with the index of the rows that it was given.")
    return made


def _refuse_neighbours(derive: FunctionType, params: Mapping[str, Any], rows: pd.DataFrame) -> None:
    together = _called(derive, params, rows)
    halves = [_called(derive, params, rows.iloc[start::2]) for start in (0, 1)]
    apart = pd.concat(halves).loc[rows.index]
    for column in together.columns:
        if column not in apart or not _same(together[column], apart[column]):
            raise FeatureError(
                f"{_name(derive)} computes {column} from other rows too. A feature must follow from its own row, or "
                "training and serving differ: compute it upstream and deliver it as a column."
            )


def _same(one: pd.Series, other: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(one.dtype) and pd.api.types.is_numeric_dtype(other.dtype):
        numbers = [series.to_numpy(np.float64, na_value=np.nan) for series in (one, other)]
        return bool(np.allclose(*numbers, rtol=1e-9, atol=0, equal_nan=True))
    return one.astype(object).where(one.notna()).equals(other.astype(object).where(other.notna()))


def _is_text(column: pd.Series) -> bool:
    return not (pd.api.types.is_numeric_dtype(column.dtype) or column.dtype.kind in "mM")


def _as_categories(column: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """Codes into the distinct values (-1 for missing), and those values as text."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, values = column.cat.codes.to_numpy(), column.cat.categories
    else:
        codes, values = pd.factorize(column)
    return codes, pd.Index(values) if values.inferred_type == "string" else pd.Index([str(value) for value in values])


def _most_frequent(column: pd.Series, limit: int) -> list[str]:
    codes, values = _as_categories(column)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    seen = np.flatnonzero(counts)
    frequent = seen[np.lexsort((values[seen].to_numpy(), -counts[seen]))][: limit - 1]
    return [*sorted(name for name in values[frequent] if name != OTHER), OTHER]


def _capped(column: pd.Series, kept: Sequence[str]) -> pd.Categorical:
    codes, values = _as_categories(column)
    places = pd.Index(kept).get_indexer(values)
    places = np.append(np.where(places < 0, len(kept) - 1, places), -1)
    return pd.Categorical.from_codes(places[codes], dtype=pd.CategoricalDtype(range(len(kept))))


def _numbers(column: pd.Series) -> pd.Series | np.ndarray:
    """Plain NumPy numbers: truth as 0 and 1, NaN for what a nullable column lacks."""
    if isinstance(column.dtype, np.dtype):
        return column.astype(np.uint8) if column.dtype.kind == "b" else column
    return column.to_numpy(np.float64, na_value=np.nan)


def _import(path: str) -> Any:
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise FeatureError(f"{path} cannot be imported: {error}.") from error


def _name(derive: Callable[..., Any]) -> str:
    return f"{derive.__module__}.{getattr(derive, '__qualname__', type(derive).__name__)}"
