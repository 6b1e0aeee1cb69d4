"""A model's stored history as a back-test lives through it: validated partitions, their rows, and when labels came."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import pandas as pd

from mlops_assets.lifecycle.common import RAW, VALIDATED
from mlops_assets.lifecycle.labelled import answers_known, labels_of, rows_with_target
from mlops_assets.ml.backtest import History
from mlops_assets.ml.causes import Feed, feed
from mlops_assets.ml.contracts import inputs, load_contract, pii_columns
from mlops_assets.ml.labels import LabelledPartition
from mlops_assets.ml.sources import Delivery
from mlops_assets.ml.spec import Labels, ModelSpec
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import oldest_first
from mlops_assets.resources.records import Records
from mlops_assets.resources.tables import Tables

NAMED = 5


def stored(spec: ModelSpec, records: Records, tables: Tables) -> History:
    """All that is stored of a model's validated partitions. Rows are read as they are wanted."""
    parts = records.all(ValidatedPartition, spec.name, VALIDATED)
    labels = labels_of(spec, records, parts)
    known = {key: part for key, part in parts.items() if spec.labels is None or _labelled(labels.get(key), part)}
    deliveries = _deliveries(spec, records, known)

    def read(wanted: Sequence[ValidatedPartition], columns: Sequence[str] | None) -> pd.DataFrame:
        return rows_with_target(spec, tables, wanted, labels, columns)

    contract = load_contract(spec.contract)
    matured = _matured(spec.labels, spec, tables, labels) if spec.labels else None
    assumed = _at_once(spec, spec.labels, known, matured) if spec.labels and matured else {}
    return History(
        parts=list(known.values()),
        read=read,
        inputs=inputs(contract, spec),
        personal=pii_columns(contract),
        matured=None if matured is None else {**matured, **assumed},
        feeds={key: _feed(part, deliveries.get(key)) for key, part in known.items()},
        notes=[*_corrected(known, deliveries), *_loaded(spec.labels, matured, assumed)],
    )


def _labelled(labels: LabelledPartition | None, part: ValidatedPartition) -> bool:
    return labels is not None and labels.teaches(part)


def _deliveries(spec: ModelSpec, records: Records, parts: Mapping[str, ValidatedPartition]) -> dict[str, Delivery]:
    """The deliveries that were validated: a newer one that was refused is none of them."""
    found = records.some(Delivery, spec.name, RAW, parts)
    return {key: delivery for key, delivery in found.items() if delivery.version == parts[key].delivery}


def _feed(part: ValidatedPartition, delivery: Delivery | None) -> Feed:
    """How a partition came to be, a correction as if it had come at first.

    By which code it was made then is not known: the instance tells of the newest making only.
    """
    return feed(part, delivery and delivery.model_copy(update={"corrects": None}), {})


def _corrected(parts: Mapping[str, ValidatedPartition], deliveries: Mapping[str, Delivery]) -> list[str]:
    """The sentence about corrections, of which the records keep the newest only."""
    again = [part.partition for part in oldest_first(parts.values()) if _corrects(deliveries.get(part.partition))]
    if not again:
        return []
    return [
        f"Corrections are not lived through: of {_named(again)} only the newest delivery is on record, "
        "and it is replayed as if it had come at first."
    ]


def _corrects(delivery: Delivery | None) -> bool:
    return delivery is not None and delivery.corrects is not None


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return f"{', '.join(keys[:NAMED])}{more}"


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


def _at_once(
    spec: ModelSpec, rule: Labels, parts: Mapping[str, ValidatedPartition], matured: Mapping[str, datetime]
) -> dict[str, datetime]:
    """When labels are assumed to have matured that were loaded at once: after the declared delay.

    Nothing else tells when labels without a `known` column came. Those that came too late on a day that brought those
    of as many partitions as a first model takes were a load of history, and no delay of the world.
    """
    if rule.known is not None:
        return {}
    due = {key: part.last + timedelta(days=rule.delay_days) for key, part in parts.items() if key in matured}
    late = [key for key, moment in due.items() if matured[key] > moment]
    loads = pd.Series([matured[key].date() for key in late]).value_counts()
    days = set(loads.index[loads >= spec.training.min_partitions])
    return {key: due[key] for key in late if matured[key].date() in days}


def _loaded(rule: Labels | None, matured: Mapping[str, datetime] | None, assumed: Mapping[str, datetime]) -> list[str]:
    """The sentence about labels that were loaded at once."""
    if rule is None or matured is None or not assumed:
        return []
    days = sorted({f"{matured[key]:%Y-%m-%d}" for key in assumed})
    return [
        f"The labels of {len(assumed)} partitions were loaded at once on {_named(days)}, and labels.known is not "
        f"declared: they are replayed as if each had come after the declared delay of {rule.delay_days:g} days."
    ]
