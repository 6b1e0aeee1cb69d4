"""Many models in one code location: loading them, and one look of every sensor. Run: python -m benchmarks.models.

A copy of this package with so many models more, each with DELIVERIES known deliveries, is loaded in a process of its
own. Nothing is new in it: this is what every few seconds costs.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
COUNTS = (2, 50, 200)
DELIVERIES = 4
SETTLED = int(time.time()) - 3600
DECLARED = """type: mlops_assets.components.SupervisedModel
attributes:
  name: {name}
  owner: team:bench
  description: One of many models that a benchmark declares.
  task: regression
  source: {{ uri: "{{{{ landing ~ '/{name}' }}}}", files: ["bike-{{partition:%Y-%m}}.csv"] }}
  partitions: {{ every: monthly, start: 2011-01-01 }}
  time: {{ columns: [dteday, hr], format: "%Y-%m-%d %H" }}
  contract: mlops_assets.defs.models.bike_demand.contract.BikeHour
  target: cnt
  exclude: [instant, yr, casual, registered]
  estimator: {{ path: sklearn.ensemble.HistGradientBoostingRegressor }}
  seed: 1
  evaluation: {{ metric: mae }}
"""


def declare(folder: Path, count: int) -> None:
    """A copy of the package in which only `count` models of our own are declared."""
    shutil.copytree(ROOT / "mlops_assets", folder / "mlops_assets", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "dagster.yaml"):
        shutil.copy(ROOT / name, folder)
    models = folder / "mlops_assets" / "defs" / "models"
    for shipped in models.glob("*/defs.yaml"):
        shipped.unlink()
    for number in range(count):
        model = models / f"m{number:03}"
        model.mkdir()
        (model / "defs.yaml").write_text(DECLARED.format(name=model.name))


def known_deliveries(instance, names: list[str], landing: Path) -> None:
    """Files that lie there, and the events that their runs left behind."""
    import dagster as dg

    from mlops_assets.ml.sources import DeliveredFile, Delivery, version_of
    from mlops_assets.resources.blobs import Blobs
    from mlops_assets.resources.records import Records

    home = os.environ["MLOPS_HOME"]
    records, blobs = Records(root=home), Blobs(root=home)
    for name in names:
        (landing / name).mkdir(parents=True)
        for month in range(1, DELIVERIES + 1):
            path = landing / name / f"bike-2011-{month:02}.csv"
            path.write_text(f"{name},{month}\n")
            os.utime(path, (SETTLED, SETTLED))
            with path.open("rb") as stream:
                sha256, size = blobs.put(stream)
            partition = f"2011-{month:02}-01"
            file = DeliveredFile(
                name=path.name, sha256=sha256, bytes=size, modified=datetime.fromtimestamp(SETTLED, UTC)
            )
            records.put(name, "raw_data", Delivery(model=name, partition=partition, files=(file,)), partition)
            tags = {"dagster/data_version": version_of([sha256])}
            event = dg.AssetMaterialization([name, "raw_data"], partition=partition, tags=tags)
            instance.report_runless_asset_event(event)


def used() -> tuple[float, float]:
    """Seconds of the clock and of the CPU."""
    return time.perf_counter(), time.process_time()


def since(before: tuple[float, float]) -> dict[str, float]:
    """Seconds since then."""
    wall, cpu = used()
    return {"seconds": round(wall - before[0], 2), "cpu": round(cpu - before[1], 2)}


def peak_mb() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure(count: int) -> None:
    """In a fresh process: load, describe to the daemon, and look with every sensor, three times."""
    begun = used()
    from mlops_assets.definitions import defs

    imported = since(begun)
    begun = used()
    repository = defs().get_repository_def()
    loaded = since(begun)
    from dagster._core.remote_representation.external_data import RepositorySnap

    begun = used()
    RepositorySnap.from_def(repository)
    described, memory = since(begun), peak_mb()

    import dagster as dg

    from mlops_assets import settings
    from mlops_assets.instance import prepare

    prepare()
    with dg.DagsterInstance.get() as instance:
        known_deliveries(instance, [f"m{number:03}" for number in range(count)], Path(settings.landing()))
        cursors: dict[str, str | None] = {}
        rounds = [look(instance, repository, cursors) for _ in range(3)]
    print(
        json.dumps(
            {"models": count, "import": imported, "load": loaded, "describe": described, "loaded_mb": memory}
            | {"first_look": rounds[0], "later_look": rounds[2], "mb": peak_mb()}
        )
    )


def look(instance, repository, cursors: dict[str, str | None]) -> dict[str, object]:
    """One look of every sensor, with the seconds of all `new_data` sensors together and of each other."""
    import dagster as dg

    costs: dict[str, float] = {}
    begun = used()
    for sensor in repository.sensor_defs:
        before = time.perf_counter()
        resources = {name: repository.get_top_level_resources()[name] for name in sensor.required_resource_keys}
        with dg.build_sensor_context(
            instance, cursor=cursors.get(sensor.name), repository_def=repository, resources=resources,
            sensor_name=sensor.name, last_sensor_start_time=time.time(),
        ) as context:  # fmt: skip
            seen = sensor.evaluate_tick(context)
        if seen.run_requests:
            raise AssertionError(f"{sensor.name} asks for a run: {seen.run_requests}")
        cursors[sensor.name] = seen.cursor
        kind = "new_data" if sensor.name.endswith("_new_data") else sensor.name
        costs[kind] = costs.get(kind, 0.0) + time.perf_counter() - before
    return {**since(begun), "each": {name: round(seconds, 3) for name, seconds in sorted(costs.items())}}


def main() -> None:
    """One line a number of models."""
    for count in COUNTS if len(sys.argv) == 1 else map(int, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            declare(Path(folder), count)
            environment = os.environ | {"PYTHONPATH": f"{folder}:{ROOT}", "MLOPS_HOME": f"{folder}/home"}
            environment.pop("DAGSTER_HOME", None)
            program = f"from benchmarks.models import measure; measure({count})"
            subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    main()
