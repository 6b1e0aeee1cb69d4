"""Alerts: raised by whoever sees something, told to a person apart from that. What keeps them is in outbox.py."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain

import dagster as dg

from mlops_assets import settings
from mlops_assets.ml.alerts import Alert, Kind, Known, Telling, is_news
from mlops_assets.resources.channels import Channel, channels, send
from mlops_assets.resources.outbox import Also, Clock, Over, Round, Shelves, Tell, Work


class Alerts(dg.ConfigurableResource):
    """What a person has to know, kept under `root`. `ui` is where links lead, `runbooks` where the runbooks are found.

    The channels are no part of it: they are read from the environment when they are used, so that no configuration of
    Dagster holds a secret.
    """

    root: str
    ui: str
    runbooks: str = "docs/runbooks"
    again_hours: float = 24.0

    def raise_(self, alert: Alert) -> bool:
        """Keep an alert to be told, and return whether it is news. Safe to repeat: what was seen before is none."""
        known, about = self._known(alert.name), self._about(alert.name)
        last, resolved = self._last_raised(alert.name, known), self._resolved(alert.name, known)
        if about and alert.partition not in about:
            self._shelves.put("also", alert.name, Also(partitions=(*about, alert.partition)))
        if not is_news(alert.raised, last, resolved, timedelta(hours=self.again_hours)):
            return False
        self._shelves.put("new", alert.name, alert)
        return True

    def resolve(self, names: Iterable[str], at: datetime) -> None:
        """The alerts of these names were over then. Safe to repeat: what was raised since is not."""
        for name in self._standing(names):
            raised, over = self._last_raised(name, self._known(name)), self._shelves.get(Over, "resolved", name)
            if raised is not None and raised <= at and (over is None or over.at < at):
                if also := self._shelves.get(Also, "also", name):
                    self._shelves.remove("also", name, also)
                self._shelves.put("resolved", name, Over(at=at))

    def resolve_of(self, names: Iterable[str], at: datetime, covers: Callable[[str | None], bool]) -> None:
        """The alerts of these names were over then for the partitions that are covered; over when none is left."""
        for name in self._standing(names):
            about = self._about(name)
            left = tuple(partition for partition in about if not covers(partition))
            if not left:
                self.resolve([name], at)
            elif len(left) < len(about):
                self._shelves.put("also", name, Also(partitions=left))

    def hold(self, kinds: Sequence[Kind], alerts: Sequence[Alert], at: datetime) -> list[Alert]:
        """These are all alerts of these kinds that are true now: raise them, resolve any other. Those that are news.

        One that was raised by a clock that was ahead ends all the same when the clock is right again.
        """
        true = {alert.name for alert in alerts}
        for known in self.open():
            if known.alert.kind in kinds and known.alert.name not in true:
                self._shelves.put("resolved", known.alert.name, Over(at=max(at, known.alert.raised)))
        return [alert for alert in alerts if self.raise_(alert)]

    def open_names(self) -> set[str]:
        """The names of the alerts that are not over."""
        return {known.alert.name for known in self.open()}

    def open(self) -> list[Known]:
        """The alerts that are not over, newest first."""
        found, over = self._shelves.all(Known, "open"), self._shelves.all(Over, "resolved")
        for name, alert in self._shelves.all(Alert, "new").items():
            before = found.get(name)
            since = before.since if before and name not in over else alert.raised
            found[name] = Known(alert=alert, since=since, times=before.times if before else 1)
        return _newest_first(
            known for name, known in found.items() if name not in over or over[name].at < known.alert.raised
        )

    def past(self) -> list[Known]:
        """The alerts that are over, newest first."""
        return _newest_first(self._shelves.all(Known, "past").values())

    def tellings(self, newest: int) -> list[Telling]:
        """The newest messages and what became of them, newest first."""
        shelf = {name: shelf for shelf in ("told", "outbox") for name in self._shelves.names(shelf)}
        found = (self._shelves.get(Telling, shelf[name], name) for name in sorted(shelf, reverse=True)[:newest])
        return [telling for telling in found if telling is not None]

    def run_url(self, run_id: str) -> str:
        """Where a person sees a run."""
        return f"{self.ui}/runs/{run_id}"

    def asset_url(self, key: dg.AssetKey, partition: str | None = None, check: str | None = None) -> str:
        """Where a person sees an asset, one of its partitions, or one of its checks."""
        page = f"{self.ui}/assets/{'/'.join(key.path)}"
        if check is not None:
            return f"{page}?view=checks&checkDetail={check}"
        return page if partition is None else f"{page}?view=partitions&partition={partition}"

    def deliver(
        self,
        clock: Clock,
        owners: Mapping[str, str] | None = None,
        to: Callable[[], Sequence[Channel]] = channels,
        tell: Tell = send,
        kinds: Collection[Kind] | None = None,
    ) -> Round:
        """Make messages of what is new and try what is due. Where another process is at it, nothing is done.

        `owners` says who owns a model. Where `kinds` are given, alerts of others are left to the next
        round without. Raises ChannelError where MLOPS_ALERTS cannot be read: what was raised stays.
        """
        with self._shelves.alone() as alone:
            if not alone:
                return Round(busy=True)
            return Work(self._shelves, to(), self.runbooks, tell, clock, kinds).do(owners or {})

    @property
    def _shelves(self) -> Shelves:
        return Shelves(self.root)

    def _standing(self, names: Iterable[str]) -> list[str]:
        """Those of which there may be something to end."""
        return sorted(set(names) & {*self._shelves.names("new"), *self._shelves.names("open")})

    def _about(self, name: str) -> tuple[str | None, ...]:
        """The partitions that an alert is about, none where it is not open."""
        new, known = self._shelves.get(Alert, "new", name), self._shelves.get(Known, "open", name)
        over = self._shelves.get(Over, "resolved", name)
        raised = ([known.alert] if known else []) + ([new] if new else [])
        lasting = [alert.partition for alert in raised if over is None or over.at < alert.raised]
        also = self._shelves.get(Also, "also", name) if lasting else None
        return also.partitions if also else tuple(dict.fromkeys(lasting))

    def _known(self, name: str) -> Known | None:
        return self._shelves.get(Known, "open", name) or self._shelves.get(Known, "past", name)

    def _last_raised(self, name: str, known: Known | None) -> datetime | None:
        new = self._shelves.get(Alert, "new", name)
        return max(chain([new.raised] if new else [], [known.alert.raised] if known else []), default=None)

    def _resolved(self, name: str, known: Known | None) -> datetime | None:
        over = self._shelves.get(Over, "resolved", name)
        return max(chain([over.at] if over else [], [known.resolved] if known and known.resolved else []), default=None)


def _newest_first(known: Iterable[Known]) -> list[Known]:
    return sorted(known, key=lambda each: each.alert.raised, reverse=True)


def alerts_at(home: str) -> Alerts:
    """The alerts kept under `home`, as the environment says: for processes without definitions too."""
    return Alerts(
        root=home,
        ui=settings.DAGSTER_UI.value(),
        runbooks=settings.RUNBOOKS.value(),
        again_hours=settings.alerts_again().total_seconds() / 3600,
    )
