"""A model's stored history as a back-test lives through it: validated partitions, their rows, and when labels came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime

import pandas as pd

from mlops_assets.lifecycle.common import VALIDATED
from mlops_assets.lifecycle.labelled import answers_known, labels_of, rows_with_target
from mlops_assets.ml.backtest import History
from mlops_assets.ml.contracts import inputs, load_contract, pii_columns
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.spec import Labels, ModelSpec
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables


def stored(spec: ModelSpec, records: Records, tables: Tables) -> History:
    """All that is stored of a model's validated partitions. Rows are read as they are wanted."""
    parts = records.all(ValidatedPartition, spec.name, VALIDATED)
    labels = labels_of(spec, records, parts)
    known = {key: part for key, part in parts.items() if spec.labels is None or _labelled(labels.get(key), part)}

    def read(wanted: Sequence[ValidatedPartition], columns: Sequence[str] | None) -> pd.DataFrame:
        return rows_with_target(spec, tables, wanted, labels, columns)

    contract = load_contract(spec.contract)
    return History(
        parts=list(known.values()),
        read=read,
        inputs=inputs(contract, spec),
        personal=pii_columns(contract),
        matured=_matured(spec.labels, spec, tables, labels) if spec.labels else None,
    )


def _labelled(labels: LabelledPartition | None, part: ValidatedPartition) -> bool:
    return labels is not None and labels.teaches(part)


def _matured(
    rule: Labels, spec: ModelSpec, tables: Tables, labels: Mapping[str, LabelledPartition]
) -> dict[str, datetime]:
    """When the labels of each partition had matured: so many of its rows had one."""
    found = {}
    for key, labelled in labels.items():
        times = answers_known(spec, tables, labelled)[1].dropna().sort_values()
        needed = max(math.ceil(rule.matured * labelled.rows), 1)
        if len(times) >= needed:
            found[key] = times.iloc[needed - 1].to_pydatetime()
    return found
