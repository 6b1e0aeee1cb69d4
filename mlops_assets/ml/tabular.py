"""Networks over tables, as scikit-learn estimators: embeddings for categories, mixed precision, checkpoints.

They learn with torch (the extra `mlops-assets[torch]`), on CUDA where there is one. What was learned is plain NumPy:
it is stored without a pickle, and answers where neither torch nor CUDA is installed.

It imports scikit-learn, which costs seconds: import it inside functions.
"""

from __future__ import annotations

import importlib.metadata
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin  # noqa: TID253  the bases of the classes below
from sklearn.utils.multiclass import check_classification_targets  # noqa: TID253
from sklearn.utils.validation import (  # noqa: TID253
    _check_sample_weight,
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    check_random_state,
    column_or_1d,
    validate_data,
)

from mlops_assets.ml.checkpoints import Identity, keeper
from mlops_assets.ml.tabular_fit import Fit, Learned, Loss, Plan, Rows
from mlops_assets.ml.tabular_network import (
    TABLE,
    DeviceError,
    Forward,
    Weights,
    answers,
    card_of,
    device_of,
    forward,
    initial,
    load_torch,
)
from mlops_assets.ml.tabular_rows import Encoding, is_category

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "float32"]
FEWEST_JUDGED = 8
CHOICES = {
    "loss": ("auto", "squared_error", "absolute_error"),
    "device": ("auto", "cpu", "cuda"),
    "precision": ("auto", "float32"),
}
POSITIVE = ("batch_size", "embedding", "epochs", "learning_rate", "patience", "threads")


class _TorchTabular(BaseEstimator):
    """What both estimators share. `resumes`: where somebody keeps its state, an interrupted fit goes on from there."""

    resumes: ClassVar[bool] = True
    forward: ClassVar[Forward] = staticmethod(forward)

    def __init__(
        self,
        *,
        loss: Literal["auto", "squared_error", "absolute_error"] = "auto",
        hidden: Sequence[int] = (128, 64),
        embedding: int = 8,
        dropout: float = 0.1,
        epochs: int = 100,
        batch_size: int = 1024,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-4,
        patience: int = 10,
        validation_fraction: float = 0.1,
        time_ordered: bool = False,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int = 1,
        random_state: Any = None,
    ) -> None:
        self.loss = loss
        self.hidden = hidden
        self.embedding = embedding
        self.dropout = dropout
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.time_ordered = time_ordered
        self.device = device
        self.precision = precision
        self.threads = threads
        self.random_state = random_state

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:  # noqa: N803  scikit-learn's name
        """Learn `y` from the rows of `X`: a frame, whose columns of text and categories get embeddings, or numbers.

        `validation_fraction` of the rows (the last ones where they are `time_ordered`, else drawn) are not learned
        from and say when to stop. On CPU the same rows, seed and `threads` give the same weights in every bit.
        """
        self._refuse_impossible()
        frame = self._frame(X, reset=True)
        target = self._target(y)
        check_consistent_length(frame, target)
        weight = _check_sample_weight(sample_weight, frame, dtype=np.float32, ensure_non_negative=True)
        encoding = Encoding.of(frame)
        self.categories_ = {str(place): values for place, values in encoding.categories.items()}
        self.numbers_, self.gaps_ = encoding.numbers, encoding.gaps
        self.means_, self.scales_ = encoding.means, encoding.scales
        seed = self._seed()
        rows = Rows(encoding.encode(frame), target, weight)
        learned = self._learn(rows, seed)
        self.weights_ = learned.weights
        self.validation_losses_, self.best_epoch_ = learned.losses, learned.best_epoch
        self.epochs_, self.batch_size_ = learned.epochs, learned.batch
        return self

    @classmethod
    def environment(cls, params: dict[str, Any]) -> dict[str, str]:
        """What decides the weights here, beside rows and parameters: torch's version and the device."""
        version = load_torch().__version__
        try:
            return {"torch": version, "device": card_of(device_of(params.get("device", "auto")))}
        except DeviceError:
            return {"torch": version, "device": "no CUDA here"}

    @abstractmethod
    def _target(self, y: Any) -> NDArray[Any]:
        """What is to be answered, as the network learns it."""

    @abstractmethod
    def _outputs(self) -> tuple[int, Loss]:
        """How many numbers a row is answered with, and what is wrong with them."""

    def _learn(self, rows: Rows, seed: int) -> Learned:
        outputs, loss = self._outputs()
        device = device_of(self.device)
        fitted, judged = self._split(rows, seed)
        encoding = self._encoding()
        width = len(encoding.categories) * self.embedding + encoding.width
        weights = initial((encoding.table, self.embedding), (width, *self.hidden, outputs), seed)
        plan = Plan(
            loss=loss,
            epochs=self.epochs,
            batch=self.batch_size,
            rate=self.learning_rate,
            decay=self.weight_decay,
            dropout=self.dropout,
            patience=self.patience,
            seed=seed,
            device=device,
            mixed=device == "cuda" and self.precision == "auto",
            threads=self.threads,
        )
        fit = Fit(plan, weights, fitted, judged, type(self).forward)
        learned = fit.run(keeper(), self._identity(rows, seed, device))
        return learned._replace(weights=_with_unseen(learned.weights, fitted.encoded.codes, encoding.spans))

    def _identity(self, rows: Rows, seed: int, device: str) -> Identity:
        """What this fit is, for whoever keeps its state."""
        return {
            "estimator": f"{type(self).__module__}.{type(self).__qualname__}",
            "parameters": json.dumps({**self.get_params(), "random_state": seed}, sort_keys=True),
            "rows": rows.digest(),
            "torch": load_torch().__version__,
            "numpy": importlib.metadata.version("numpy"),
            "device": card_of(device),
        }

    def _split(self, rows: Rows, seed: int) -> tuple[Rows, Rows | None]:
        """The rows to learn from, and those that say when to stop: none where they would be too few."""
        count = int(len(rows) * self.validation_fraction)
        if count < FEWEST_JUDGED:
            return rows, None
        order = np.arange(len(rows)) if self.time_ordered else np.random.default_rng(seed).permutation(len(rows))
        fitted, judged = np.sort(order[:-count]), np.sort(order[-count:])
        return _some(rows, fitted), _some(rows, judged)

    def _answers(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        check_is_fitted(self)
        frame = self._frame(X, reset=False)
        return answers(self.weights_, self._encoding().encode(frame)).astype(np.float64)

    def _encoding(self) -> Encoding:
        categories = {int(place): values for place, values in self.categories_.items()}
        return Encoding(categories, self.numbers_, self.gaps_, self.means_, self.scales_)

    def _frame(self, X: Any, *, reset: bool) -> pd.DataFrame:  # noqa: N803
        """The rows as a frame, with nothing infinite in it."""
        if not isinstance(X, pd.DataFrame):
            plain = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=reset)
            return pd.DataFrame(plain)
        validate_data(self, X, skip_check_array=True, reset=reset)
        if reset and not X.shape[0]:
            raise ValueError("Found array with 0 sample(s): there is nothing to learn from.")
        for name, dtype in X.dtypes.items():
            if not is_category(dtype):
                assert_all_finite(X[name].to_numpy(np.float64, na_value=np.nan), allow_nan=True, input_name=str(name))
        return X

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _refuse_impossible(self) -> None:
        """Raise ValueError for a parameter that means nothing."""
        values = self.get_params()
        for name in POSITIVE:
            if not values[name] > 0:
                raise ValueError(f"{name} must be above 0; it is {values[name]!r}.")
        for name in ("dropout", "validation_fraction"):
            if not 0 <= values[name] < 1:
                raise ValueError(f"{name} must be from 0 to below 1; it is {values[name]!r}.")
        for name, allowed in CHOICES.items():
            if values[name] not in allowed:
                raise ValueError(f"{name} must be one of {', '.join(allowed)}; it is {values[name]!r}.")
        if any(size < 1 for size in self.hidden):
            raise ValueError(f"hidden must be sizes of layers from 1 on; it is {list(self.hidden)!r}.")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        return tags


class TorchTabularRegressor(RegressorMixin, _TorchTabular):
    """A network that learns a number. `loss` is squared_error, as `auto` is too, or absolute_error."""

    def predict(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """One number a row."""
        return self._answers(X)[:, 0] * self.target_scale_ + self.target_mean_

    def _target(self, y: Any) -> NDArray[Any]:
        values = column_or_1d(y, warn=True, dtype=np.float64)
        assert_all_finite(values, input_name="y")
        self.target_mean_, self.target_scale_ = float(values.mean()), float(values.std()) or 1.0
        return ((values - self.target_mean_) / self.target_scale_).astype(np.float32)

    def _outputs(self) -> tuple[int, Loss]:
        return 1, "absolute_error" if self.loss == "absolute_error" else "squared_error"


class TorchTabularClassifier(ClassifierMixin, _TorchTabular):
    """A network that learns classes and how likely each is."""

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """How likely each of `classes_` is, a row each."""
        found = self._answers(X)
        likely = np.exp(found - found.max(axis=1, keepdims=True))
        return likely / likely.sum(axis=1, keepdims=True)

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The likeliest class of each row."""
        likely = self.predict_proba(X)
        return self.classes_[likely.argmax(axis=1)]

    def _target(self, y: Any) -> NDArray[Any]:
        values = column_or_1d(y, warn=True)
        check_classification_targets(values)
        self.classes_, places = np.unique(values, return_inverse=True)
        return places.astype(np.int64)

    def _outputs(self) -> tuple[int, Loss]:
        if self.loss != "auto":
            raise ValueError(f"loss must be auto where classes are learned; it is {self.loss!r}.")
        return len(self.classes_), "log_loss"


def _some(rows: Rows, chosen: NDArray[np.intp]) -> Rows:
    return Rows(rows.encoded.take(chosen), rows.target[chosen], rows.weight[chosen])


def _with_unseen(weights: Weights, codes: NDArray[np.int32], spans: Sequence[tuple[int, int]]) -> Weights:
    """The weights, in which values of a column that no row had (unknown, missing) get the mean of those that it had."""
    table = weights[TABLE].copy()
    counts = np.bincount(codes.ravel(), minlength=len(table))
    for start, stop in spans:
        seen = counts[start:stop]
        if seen.any():
            table[start:stop][seen == 0] = np.average(table[start:stop], axis=0, weights=seen)
    return {**weights, TABLE: table}
