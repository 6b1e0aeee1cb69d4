"""What `mlops-assets backtest` does: the wishes of a person, the replays, the table, and the files that stay."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.table import Table

from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.spec import ModelSpec

if TYPE_CHECKING:
    from mlops_assets.ml.backtest import History, Replay
    from mlops_assets.ml.backtest_page import Comparison
    from mlops_assets.resources.reports import Reports

DEFAULT = ("gain", "never", "always", "every_n", "on_drift")
NUMBERS = {"metric", "gained", "retrainings", "promoted", "cost"}


class WishError(ValueError):
    """A policy, a setting or a date that cannot be meant."""


def wished(spec: ModelSpec, settings: Sequence[str]) -> ModelSpec:
    """The declaration with settings replaced, each given as `field.field=value`."""
    declared = spec.model_dump(mode="json")
    for setting in settings:
        path, equals, value = setting.partition("=")
        *above, last = path.strip().split(".")
        place: Any = declared
        for name in above:
            place = place.get(name) if isinstance(place, dict) else None
        if not equals or not isinstance(place, dict):
            raise WishError(f"--set {setting}: give it as retraining.worth=0.3, with a field of the declaration.")
        place[last] = yaml.safe_load(value)
    try:
        return ModelSpec.model_validate(declared)
    except ValidationError as error:
        raise WishError("; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())) from error


def contestant(spec: ModelSpec, wish: str) -> tuple[ModelSpec, str]:
    """The declaration under a policy, `NAME` or `NAME:WINDOW` as in `always:6`, and the name of that policy."""
    name, _, window = wish.partition(":")
    if name not in POLICIES:
        raise WishError(f"--policy {wish}: there is no {name!r}. There are: {', '.join(POLICIES)}.")
    chosen = ["training.window=" + ("null" if window == "all" else window)] if window else []
    return wished(spec, [f"retraining.policy={name}", *chosen]), name


def moments(days: Sequence[str], option: str) -> list[datetime]:
    """Days that a person has named by an option."""
    try:
        return [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in days]
    except ValueError as error:
        raise WishError(f"{option}: {error}. Give a day as 2012-03-01.") from error


def opened(spec: ModelSpec) -> tuple[History, Reports]:
    """The stored history of a model, and where reports are kept. Raises WishError where there is too little of it."""
    from mlops_assets import settings
    from mlops_assets.defs.resources import resources
    from mlops_assets.lifecycle.history import stored

    found = resources(settings.home(), settings.tracking_uri())
    history = stored(spec, found["records"], found["tables"])
    if len(history.parts) <= spec.training.min_partitions:
        raise WishError(
            f"{spec.name} has {len(history.parts)} validated partitions with labels under {settings.home()}, and the "
            f"first model takes {spec.training.min_partitions}: there is nothing to live through yet."
        )
    return history, found["reports"]


def live(history: History, spec: ModelSpec, wish: str) -> Replay:
    """The history under one policy."""
    from mlops_assets.ml.backtest import replay

    declared, name = contestant(spec, wish)
    return replay(history, declared, POLICIES[name], wish)


def compared(
    spec: ModelSpec,
    history: History,
    replays: Sequence[Replay],
    changes: Sequence[datetime] = (),
    faults: Sequence[datetime] = (),
) -> Comparison:
    """The replays beside each other; an alarm within as many partitions as drift looks at is true."""
    from mlops_assets.ml.backtest_page import Comparison

    return Comparison(replays, spec.retraining, changes, spec.drift.n, faults, history.notes)


def table(compared: Comparison) -> Table:
    """The figures by policy, with the course of the metric over time."""
    from mlops_assets.ml.backtest_page import HEAD, courses

    drawn = Table(box=SIMPLE_HEAD, title=f"{compared.judged} partitions of {compared.replays[0].model}")
    for name in (*HEAD, "over time"):
        drawn.add_column(name, justify="right" if name in NUMBERS else "left", no_wrap=True)
    for row, course in zip(compared.rows(), courses(compared), strict=True):
        drawn.add_row(*row, course)
    return drawn


def told(compared: Comparison, reports: Reports) -> list[str]:
    """What came out, and where the page and the picture are, which are written by this."""
    from mlops_assets.ml.backtest_page import draw, html, sentence

    folder, target = f"{compared.replays[0].model}/backtest", io.BytesIO()
    draw(compared, target)
    page = reports.save(f"{folder}/policies.html", html(compared))
    picture = reports.keep(f"{folder}/policies.png", target.getvalue())
    files = f"{reports.root}/reports/{folder}"
    return [sentence(compared), *compared.notes, f"Page: {page}", f"Picture: {picture}", f"Both are in {files}."]
