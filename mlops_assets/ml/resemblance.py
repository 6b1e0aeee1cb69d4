"""Resemblance: whether a delivery looks like the ones before it: its distributions, its row count and its age."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from statistics import median

import pandas as pd

from mlops_assets.ml.profiles import Profile, effect_sizes
from mlops_assets.ml.spec import Value


class Finding(Value):
    """What a check found: whether it passes, the sentence that says why, and its figures."""

    passed: bool
    sentence: str
    figures: dict[str, float]


def resembles(previous: Sequence[Profile], frame: pd.DataFrame, threshold: float) -> Finding:
    """Whether each column lies within `threshold` (PSI, over all rows) of at least one of the previous partitions."""
    if not previous:
        return Finding(passed=True, sentence="There is no earlier partition to compare with.", figures={})
    found: dict[str, float] = {}
    for profile in previous:
        for name, shift in effect_sizes(profile, frame).items():
            found[name] = min(shift.effect, found.get(name, shift.effect))
    moved = {name: effect for name, effect in found.items() if effect > threshold}
    shown = ", ".join(f"{name} ({effect:.2f})" for name, effect in sorted(moved.items(), key=lambda item: -item[1]))
    compared = f"the last {len(previous)} partitions (limit: PSI {threshold:g})"
    sentence = (
        f"Unlike each of {compared}: {shown}." if moved else f"All {len(found)} columns are like one of {compared}."
    )
    return Finding(passed=not moved, sentence=sentence, figures=found)


def has_usual_row_count(rows: int, previous: Sequence[int], ratio: tuple[float, float]) -> Finding:
    """Whether there are between `ratio[0]` and `ratio[1]` times as many rows as usual: the median of the previous."""
    if not previous:
        sentence = f"{rows} rows; there is no earlier partition to compare with."
        return Finding(passed=True, sentence=sentence, figures={"rows": rows})
    usual = median(previous)
    least, most = (bound * usual for bound in ratio)
    return Finding(
        passed=least <= rows <= most,
        sentence=f"{rows} rows; from {least:g} to {most:g} are usual.",
        figures={"rows": rows, "usual": usual, "least": least, "most": most},
    )


def is_fresh(
    last: datetime, delivered: datetime, previous: Sequence[timedelta], length: timedelta, limit: float
) -> Finding:
    """Whether the newest row, when it was delivered, was at most `limit` partitions older than is usual.

    Usual is the median age of the previous partitions' newest rows. History that is delivered at once, every window
    younger than the one before, is therefore fresh; a feed that falls behind is not.
    """
    age = delivered - last
    usual = timedelta(seconds=median(each.total_seconds() for each in previous)) if previous else age
    late = (age - usual) / length if length else 0.0
    days = age / timedelta(days=1)
    return Finding(
        passed=late <= limit,
        sentence=(
            f"The newest row was {days:.1f} days old when it was delivered, {max(late, 0):.1f} partitions later than "
            f"usual; the limit is {limit:g}."
        ),
        figures={"age_days": days, "partitions_late": late},
    )
