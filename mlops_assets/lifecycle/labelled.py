"""The one place where rows meet their labels: which partitions can be learned from, and their rows with the target."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from mlops_assets.lifecycle.common import VALIDATED
from mlops_assets.ml.causes import RECENT
from mlops_assets.ml.labels import STORED_KNOWN, STORED_LABEL, LabelledPartition, as_target, matured
from mlops_assets.ml.monitoring import DriftReport, broken_feed, in_force
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.training import LeftOut
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

LABELS, DRIFT = "labels", "drift_report"


class Learnable(NamedTuple):
    """The partitions that can be learned from, their labels where those come late, and what is left out on the way.

    `let_in` are those that were blamed on their feed and count all the same, with the reason.
    """

    parts: dict[str, ValidatedPartition]
    labels: dict[str, LabelledPartition]
    left_out: dict[str, LeftOut]
    let_in: dict[str, str]


def learnable(spec: ModelSpec, records: Records, newest: int | None) -> Learnable:
    """The `newest` partitions (all when None) that can be learned from: with mature labels, and of a sound feed.

    Batches are in no order until they are read: all of them.
    """
    newest = None if spec.partitions.every == "batch" else newest
    found = Learnable({}, {}, {}, {})
    for key in reversed(records.partitions(spec.name, VALIDATED if spec.labels is None else LABELS)):
        part = records.get(ValidatedPartition, spec.name, VALIDATED, key)
        labelled = records.get(LabelledPartition, spec.name, LABELS, key) if spec.labels else None
        if part is None or not teaches(spec, part, labelled):
            continue
        said, counts = _reported(spec, records, key)
        if reason := broken_feed(counts, part.delivery):
            found.left_out[key] = LeftOut(delivery=part.delivery, first=part.first, reason=reason)
            continue
        if counts and broken_feed(said, part.delivery) and counts.cause:
            found.let_in[key] = counts.cause.sentence
        found.parts[key] = part
        found.labels.update({key: labelled} if labelled else {})
        if len(found.parts) == newest:
            break
    return found


def _reported(spec: ModelSpec, records: Records, key: str) -> tuple[DriftReport | None, DriftReport | None]:
    """What was said of a partition, and the same as it counts beside what was said of later ones.

    Of those, the next ones are enough: what accepts a partition was held against it. Batches are in no order.
    """
    said = records.get(DriftReport, spec.name, DRIFT, key)
    if said is None or not said.is_broken_feed:
        return said, said
    keys = records.partitions(spec.name, DRIFT)
    near = keys if spec.partitions.every == "batch" else keys[bisect_left(keys, key) :][: RECENT + 1]
    return said, in_force(records.some(DriftReport, spec.name, DRIFT, near), spec.drift)[key]


def teaches(spec: ModelSpec, part: ValidatedPartition, labelled: LabelledPartition | None) -> bool:
    """Whether the labels of a partition's rows have matured; where they come with the rows they always have."""
    if spec.labels is None:
        return True
    return labelled is not None and labelled.is_of(part) and matured(spec, labelled.labelled, part.rows_out)


def labels_of(spec: ModelSpec, records: Records, partitions: Iterable[str]) -> dict[str, LabelledPartition]:
    """The labels of partitions whose labels come later than the rows; none where they stand in the rows."""
    return {} if spec.labels is None else records.some(LabelledPartition, spec.name, LABELS, partitions)


def rows_with_target(
    spec: ModelSpec,
    tables: Tables,
    parts: Collection[ValidatedPartition],
    labels: Mapping[str, LabelledPartition],
    columns: Sequence[str] | None = None,
) -> pd.DataFrame:
    """The rows of partitions, one after the other: `columns` (all when None) and the target, missing where unknown.

    Where labels come later, each partition has some, and they are of its rows as they are now.
    """
    files = {path: sha256 for part in parts for path, sha256 in part.files.items()}
    if spec.labels is None:
        wanted = None if columns is None else [*dict.fromkeys([*columns, spec.target])]
        return tables.read(spec.name, VALIDATED, files, wanted)
    wanted = None if columns is None else [name for name in dict.fromkeys(columns) if name != spec.target]
    rows = tables.read(spec.name, VALIDATED, files, wanted)
    stored = {path: sha256 for part in parts for path, sha256 in labels[part.partition].files.items()}
    found = tables.read(spec.name, LABELS, stored, [STORED_LABEL])
    return rows.assign(**{spec.target: as_target(found[STORED_LABEL], spec.task).array})


def answers_known(spec: ModelSpec, tables: Tables, labelled: LabelledPartition) -> tuple[pd.Series, pd.Series]:
    """The label of each row of one partition, and when it was known; missing where there is none."""
    if not labelled.files:
        nothing = pd.Series(index=range(labelled.rows), dtype=object)
        return nothing, pd.Series(pd.NaT, nothing.index, "datetime64[us, UTC]")
    found = tables.read(spec.name, LABELS, labelled.files, [STORED_LABEL, STORED_KNOWN])
    return as_target(found[STORED_LABEL], spec.task), found[STORED_KNOWN]
