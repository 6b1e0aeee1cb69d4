"""How often a broken feed is called so, and how often a changed world is. Run: python -m benchmarks.causes.

Each seed draws a partition, and for each change a column and a size; the change is put into the rows, and the cause
asked for with the six partitions before and the one a year ago. Then those partitions are lived through: a champion is
trained on all but the last of them, and the policy `gain` decides on the changed one by what is known on that day. A
cell says in how many seeds the cause was upstream, in how many the verdict was FIX_UPSTREAM, and how many there were.

The rule was made on seeds below 40 of the five other sets; the seeds from 1000 on and the whole of air_quality_uci were
first looked at when it stood. With --whole every partition is looked at as it came, of the simulated worlds those that
the demo ships.
"""

import argparse
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from mlops_assets.ml import backtest
from mlops_assets.ml.causes import CYCLES, RECENT, Feed, find_cause
from mlops_assets.ml.observed import History, Observed
from mlops_assets.ml.policies import POLICIES
from mlops_assets.ml.profiles import profile
from mlops_assets.ml.spec import ModelSpec
from mlops_assets.ml.units import CONVERSIONS
from mlops_assets.ml.validation import ValidatedPartition
from mlops_assets.ml.windows import Windows
from mlops_assets.simulation.bike import BikeWorld
from mlops_assets.simulation.electricity import ElectricityWorld

DATA = Path(__file__).parents[2] / "shared" / "data"
HELD_OUT = 1000


class Feeds:
    """A set as partitions of rows, with its cycle, its target and the least share of the usual rows."""

    def __init__(self, every, target, least, parts, categorical=()):
        self.every, self.cycles, self.target, self.least = every, CYCLES[every], target, least
        self.parts, self.categorical = parts, categorical
        self.made, self.known, self.lived = {}, {}, {}

    def __len__(self):
        return len(self.parts)

    def rows(self, number):
        if number not in self.made:
            part = self.parts[number]
            self.made[number] = part() if callable(part) else part
        return self.made[number]

    def observed(self, number):
        if number not in self.known:
            self.known[number] = seen(str(number), self.rows(number))
        return self.known[number]

    def before(self, number):
        recent = range(number - RECENT, number)
        return recent, [number - cycle for cycle in self.cycles if number - cycle >= 0 and number - cycle not in recent]

    def history(self, number):
        recent, likewise = self.before(number)
        return History([self.observed(each) for each in recent], [self.observed(each) for each in likewise])

    def cause(self, number, rows, grown=None):
        history = self.history(number)
        if grown:
            lately = [grown(self.rows(each), step) for step, each in enumerate(range(number - RECENT, number))]
            history = history._replace(recent=[seen("lately", each) for each in lately])
        now = seen(str(number), rows)
        return find_cause(now, history, (Feed(), ()), ("something",), self.target, self.least)


def seen(name, rows):
    times = rows["time"]
    return Observed(name, times.min(), times.max(), len(rows), profile(rows, [each for each in rows if each != "time"]))


def declared(feeds, inputs, partitions):
    """A small model of a set, whose first version is trained with so many partitions."""
    target = feeds.rows(0)[feeds.target]
    number = pd.api.types.is_numeric_dtype(target) and target.nunique() > 2
    kind, metric = ("Regressor", "mae") if number else ("Classifier", "roc_auc")
    return ModelSpec(
        name="feeds",
        owner="team:benchmarks",
        description="A small model of one of the sets.",
        task="regression" if number else "binary",
        source={"uri": "nowhere", "files": ["*.csv"]},
        partitions={"every": feeds.every, "start": "1990-01-01"},
        time={"columns": ["time"], "name": "time"},
        contract="mlops_assets_tests.toy.Contract",
        target=feeds.target,
        features=[{"cyclic": ["hour", "weekday"]}],
        estimator={"path": f"sklearn.ensemble.HistGradientBoosting{kind}", "params": {"max_iter": 30}},
        seed=1,
        quality={"row_count_ratio": [feeds.least, 2.0]},
        training={"min_partitions": partitions, "known_in_advance": inputs},
        evaluation={"metric": metric, "replicates": 50},
    )


def decided(feeds, number, rows, label, grown=None):
    """The day of the changed partition, lived through under `gain`. What was changed is a delivery of that label."""
    recent, likewise = feeds.before(number)
    changed = {number: rows}
    if grown:
        changed |= {each: grown(feeds.rows(each), step) for step, each in enumerate(recent)}
    learned = pd.concat([feeds.rows(each) for each in (*likewise, *recent)])
    inputs = [name for name in learned if name != feeds.target and learned[name].notna().any()]
    spec = declared(feeds, [name for name in inputs if name != "time"], len(likewise) + RECENT - 1)
    parts, frames = [], {}
    for each in (*likewise, *recent, number):
        came = seen(str(each), changed[each]) if each in changed else feeds.observed(each)
        parts.append(validated(came, window(feeds, spec, each), label if each in changed else "as it came"))
        frames[parts[-1].partition] = changed[each] if each in changed else feeds.rows(each)

    def read(wanted, columns):
        chosen = pd.concat([frames[part.partition] for part in wanted], ignore_index=True)
        text = {name: "category" for name in chosen if chosen[name].dtype == object}
        return chosen.astype(text)[[*chosen] if columns is None else list(columns)]

    history = backtest.History(parts, read, inputs, kept=feeds.lived)
    return backtest.replay(history, spec, POLICIES["gain"]).steps[-1]


def window(feeds, spec, number):
    windows = Windows.of(spec.partitions)
    return windows.key(windows.number(feeds.rows(number)["time"].median().to_pydatetime()))


def validated(came, partition, delivery):
    return ValidatedPartition(
        model="feeds",
        partition=partition,
        delivery=delivery,
        delivered=came.last,
        rows_in=came.rows,
        rows_out=came.rows,
        rows_quarantined=0,
        broken_rules=(),
        first=came.first,
        last=came.last,
        table_version=0,
        files={},
        content=delivery,
        profile=came.profile,
    )


def typed(rows, time, drop, text=()):
    kept = rows.drop(columns=[each for each in drop if each in rows])
    numbers = {each: pd.to_numeric(kept[each], errors="coerce") for each in kept if each not in text}
    return kept.assign(**numbers, time=pd.to_datetime(time, utc=True)).reset_index(drop=True)


def cut(rows, window):
    return [part.sort_values("time").reset_index(drop=True) for _, part in rows.groupby(window) if len(part) > 20]


BIKE_DROP = ["instant", "dteday", "yr", "casual", "registered", "season", "mnth"]


def bike_rows(rows):
    return typed(rows, pd.to_datetime(rows["dteday"]) + pd.to_timedelta(rows["hr"].astype(int), unit="h"), BIKE_DROP)


def market_rows(rows):
    return typed(rows, pd.to_datetime(rows["ts"]), ["ts", "nswprice", "date"])


@cache
def bike_world(seed):
    world = BikeWorld(seed=seed)
    parts = [
        lambda start=start: bike_rows(world.partition(start, world.attempts(start) - 1)) for start in world.starts()
    ]
    return Feeds("monthly", "cnt", 0.5, parts, ("weathersit", "weekday"))


@cache
def market_world(seed):
    world = ElectricityWorld(seed=seed)
    parts = [
        lambda start=start: market_rows(world.partition(start, world.attempts(start) - 1)) for start in world.starts()
    ]
    return Feeds("weekly", "class", 0.8, parts, ("day",))


@cache
def bike(_):
    rows = bike_rows(pd.read_csv(DATA / "bike_sharing_hourly/hour.csv"))
    return Feeds("monthly", "cnt", 0.5, cut(rows, rows["time"].dt.strftime("%Y-%m")), ("weathersit", "weekday"))


@cache
def market(_):
    rows = market_rows(pd.read_parquet(DATA / "elec2_nsw/elec2_with_ts_derived.parquet"))
    weeks = (rows["time"] - pd.Timestamp("1996-05-06", tz="UTC")).dt.days // 7
    return Feeds("weekly", "class", 0.8, cut(rows, weeks), ("day",))


@cache
def weather(_):
    rows = pd.read_csv(DATA / "weather_australia/weatherAUS.zip")
    text = ["Location", "WindGustDir", "WindDir9am", "WindDir3pm", "RainToday", "RainTomorrow"]
    rows = typed(rows, rows["Date"], ["Date"], text)
    rows = rows[rows["time"] >= "2009-01-01"]
    return Feeds("monthly", "RainTomorrow", 0.5, cut(rows, rows["time"].dt.strftime("%Y-%m")), text[:4])


@cache
def air(_):
    rows = pd.read_csv(DATA / "air_quality_uci/AirQualityUCI.csv", na_values=["-200", "-200.0"])
    rows = rows.drop(columns=[each for each in rows if each.startswith("Unnamed")])
    moment = pd.to_datetime(rows["Date"] + " " + rows["Time"], format="%d-%m-%y %H:%M:%S")
    rows = typed(rows, moment, ["Date", "Time"])
    return Feeds("monthly", "CO(GT)", 0.5, cut(rows, rows["time"].dt.strftime("%Y-%m")))


SETS = {
    "bike (simulated)": bike_world,
    "electricity (simulated)": market_world,
    "bike_sharing_hourly": bike,
    "elec2_nsw": market,
    "weather_australia": weather,
    "air_quality_uci": air,
}


def numeric(feeds, rows, random):
    """A column of real numbers that are there and vary, the target aside."""
    fit = [
        each
        for each in rows.columns
        if pd.api.types.is_numeric_dtype(rows[each]) and each != feeds.target and rows[each].nunique() > 20
    ]
    return random.choice([each for each in fit if rows[each].notna().mean() > 0.5])


def as_written(column, like):
    """Values with as many decimals as those of the column that they come from."""
    some = like.dropna().head(500)
    places = next(
        count for count in range(17) if count == 16 or np.allclose(some, some.round(count), rtol=0, atol=1e-9)
    )
    return column.round(places)


def other_units(feeds, rows, random):
    """A column converted; every other time rounded as it was before, which hides the conversion."""
    name, way = numeric(feeds, rows, random), CONVERSIONS[random.integers(len(CONVERSIONS))]
    column, rounded = rows[name] * way.scale + way.offset, random.random() < 0.5
    column = as_written(column, rows[name]) if rounded else column
    return rows.assign(**{name: column}), f"{name} {way.name}{' rounded' * rounded}"


def null_burst(feeds, rows, random):
    share = random.uniform(0.2, 0.9)
    fit = [each for each in rows.columns if each not in {feeds.target, "time"} and rows[each].isna().mean() < 0.3]
    name = random.choice(fit)
    start = random.uniform(0, 1 - share)
    places = np.arange(len(rows)) / len(rows)
    hit = (places >= start) & (places < start + share) if random.random() < 0.5 else random.random(len(rows)) < share
    return rows.assign(**{name: rows[name].where(~hit)}), f"{name} {share:.0%} (was {rows[name].isna().mean():.0%})"


def half_empty(_, rows, random):
    keep = random.uniform(0.2, 0.5)
    size = round(keep * len(rows))
    match random.integers(3):
        case 0:
            kept = rows.sample(size, random_state=int(random.integers(1 << 31))).sort_index()
        case 1:
            kept = rows.head(size)
        case _:
            hours = rows["time"].dt.hour if rows["time"].dt.hour.nunique() > 1 else rows["time"].dt.day
            kept = rows[hours < np.quantile(hours, keep)]
    return kept.reset_index(drop=True), f"{len(kept) / len(rows):.0%} of the rows"


def recoded(feeds, rows, random):
    name = random.choice(feeds.categorical) if feeds.categorical else None
    if name is None:
        return None, ""
    column = rows[name]
    if pd.api.types.is_numeric_dtype(column):
        low = column.value_counts(normalize=True).loc[lambda share: share > 0.02].index.min()
        how = random.integers(3)
        return rows.assign(**{name: [column - low, column + 1, column * 10][how] if how or low else column + 1}), name
    values = sorted(column.dropna().unique())
    codes = {value: str(number) for number, value in enumerate(values)}
    ways = [str.lower, lambda text: f"{name}_{text}", codes.get, lambda text: f" {text}"]
    way = ways[random.integers(len(ways))]
    return rows.assign(**{name: column.map(way, na_action="ignore")}), name


def stuck(feeds, rows, random):
    name, share = numeric(feeds, rows, random), random.uniform(0.6, 1)
    start = round((1 - share) * len(rows))
    frozen = rows[name].dropna().iloc[: max(start, 1)].iloc[-1]
    column = rows[name].copy()
    column.iloc[start:] = frozen
    return rows.assign(**{name: column}), f"{name} {share:.0%}"


def as_it_was(_, rows, __):
    """Season, growth and whatever happened: the partition as it came."""
    return rows, ""


def regime(feeds, rows, random):
    """Other rows than usual: those with high (or low) values of one column several times as often; relations hold."""
    name = numeric(feeds, rows, random)
    rank = rows[name].rank(pct=True).fillna(0.5)
    odds = np.exp(random.uniform(1, 3) * random.choice([-1, 1]) * rank)
    drawn = random.choice(len(rows), len(rows), p=odds / odds.sum())
    return rows.iloc[np.sort(drawn)].assign(time=rows["time"].to_numpy()).reset_index(drop=True), name


def new_prices(feeds, rows, random):
    """One column 5 to 50 % higher or lower from one partition to the next."""
    name, factor = numeric(feeds, rows, random), random.uniform(1.05, 1.5) ** random.choice([-1, 1])
    return rows.assign(**{name: as_written(rows[name] * factor, rows[name])}), f"{name} x {factor:.2f}"


def more_customers(_, rows, random):
    """Up to three times the rows."""
    drawn = np.sort(random.integers(0, len(rows), round(random.uniform(1.3, 3) * len(rows))))
    return rows.iloc[drawn].reset_index(drop=True), f"{len(drawn)} of {len(rows)}"


def fewer_customers(_, rows, random):
    """As few as 76 % of the rows."""
    size = round(random.uniform(0.76, 0.95) * len(rows))
    return rows.sample(size, random_state=int(random.integers(1 << 31))).sort_index().reset_index(drop=True), f"{size}"


def new_product(feeds, rows, random):
    """A category that there never was, in 10 to 40 % of the rows."""
    if not feeds.categorical:
        return None, ""
    name, share = random.choice(feeds.categorical), random.uniform(0.1, 0.4)
    column = rows[name]
    new = column.max() + 1 if pd.api.types.is_numeric_dtype(column) else "brand new"
    return rows.assign(**{name: column.where(random.random(len(rows)) > share, new)}), name


def growth(feeds, rows, random):
    """Amounts that go together, the target among them, 2 to 10 % higher each time, for six partitions by now."""
    rate = random.uniform(1.02, 1.1)
    together = {numeric(feeds, rows, random) for _ in range(3)}
    if pd.api.types.is_numeric_dtype(rows[feeds.target]) and rows[feeds.target].nunique() > 20:
        together.add(feeds.target)

    def grown(part, steps):
        return part.assign(**{name: as_written(part[name] * rate**steps, part[name]) for name in together})

    return grown(rows, RECENT), f"{sorted(together)} x {rate:.2f}", grown


FAULTS = (other_units, null_burst, half_empty, recoded, stuck)
WORLDS = (as_it_was, regime, new_prices, growth, more_customers, fewer_customers, new_product)


def drawn(make, change, seed):
    feeds = make(seed)
    number = int(np.random.default_rng(seed).integers(RECENT, len(feeds)))
    random = np.random.default_rng([seed, (*FAULTS, *WORLDS).index(change)])
    rows, about, *grown = change(feeds, feeds.rows(number), random)
    if rows is None:
        return None
    label = f"{change.__name__} {seed}"
    return number, about, feeds.cause(number, rows, *grown), decided(feeds, number, rows, label, *grown)


SHIPPED = {"bike (simulated)": BikeWorld().seed, "electricity (simulated)": ElectricityWorld().seed}


def whole(names, *, tell):
    """Every partition as it came: how many are called upstream, and with --tell which and why."""
    for name in names:
        feeds = SETS[name](SHIPPED.get(name, 0))
        found = {number: feeds.cause(number, feeds.rows(number)) for number in range(RECENT, len(feeds))}
        called = {number: cause for number, cause in found.items() if cause.likely == "upstream"}
        print(f"| {name} | {len(found)} | {len(called)} |", flush=True)
        for number, cause in called.items() if tell else ():
            print(f"    {feeds.rows(number)['time'].min():%Y-%m-%d}: {cause.sentence}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=HELD_OUT)
    parser.add_argument("--sets", nargs="*", default=list(SETS))
    parser.add_argument("--changes", nargs="*", default=[each.__name__ for each in (*FAULTS, *WORLDS)])
    parser.add_argument("--tell", action="store_true", help="print what was called otherwise than it should be")
    parser.add_argument("--whole", action="store_true", help="look at every partition as it came instead")
    asked = parser.parse_args()
    if asked.whole:
        whole(asked.sets, tell=asked.tell)
        return
    print(f"| change | {' | '.join(asked.sets)} | all |\n|{'---|' * (len(asked.sets) + 2)}")
    for change in (*FAULTS, *WORLDS):
        if change.__name__ not in asked.changes:
            continue
        cells, total = [], Counter()
        for name in asked.sets:
            found = [drawn(SETS[name], change, seed) for seed in range(asked.first, asked.first + asked.seeds)]
            found = [each for each in found if each is not None]
            here = Counter(seeds=len(found))
            for number, about, cause, day in found:
                here += Counter(cause=cause.likely == "upstream", verdict=day.verdict == "FIX_UPSTREAM")
                if asked.tell and (day.verdict == "FIX_UPSTREAM") != (change in FAULTS):
                    told = f"{cause.likely}, {day.verdict}: {cause.sentence[:300]} {day.sentence[:200]}"
                    print(f"    {name}[{number}] {about}: {told}", file=sys.stderr)
            cells.append(f"{here['cause']} {here['verdict']} / {len(found)}" if found else "-")
            total += here
        shares = [f"{total[what] / max(total['seeds'], 1):.1%}" for what in ("cause", "verdict")]
        print(f"| {change.__name__} | {' | '.join(cells)} | {' '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
