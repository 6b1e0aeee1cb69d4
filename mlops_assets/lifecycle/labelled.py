"""The one place where rows meet their labels: which partitions can be learned from, and their rows with the target."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import pandas as pd

from mlops_assets.lifecycle.common import VALIDATED
from mlops_assets.ml.labels import STORED_KNOWN, STORED_LABEL, LabelledPartition, as_target, matured
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

LABELS = "labels"


def learnable(spec: ModelSpec, records: Records, newest: int | None) -> dict[str, ValidatedPartition]:
    """The `newest` partitions (all when None) that can be learned from: validated, and with labels that have matured.

    Batches are in no order until they are read: all of them.
    """
    newest = None if spec.partitions.every == "batch" else newest
    if spec.labels is None:
        return records.all(ValidatedPartition, spec.name, VALIDATED, newest)
    found: dict[str, ValidatedPartition] = {}
    for key in reversed(records.partitions(spec.name, LABELS)):
        labelled = records.get(LabelledPartition, spec.name, LABELS, key)
        part = records.get(ValidatedPartition, spec.name, VALIDATED, key)
        if labelled and part and labelled.is_of(part) and matured(spec, labelled.labelled, part.rows_out):
            found[key] = part
        if len(found) == newest:
            break
    return found


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
