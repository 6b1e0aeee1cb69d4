"""Measure what a step costs before and around its pod: making its Job, and the scenarios on the simulated cluster.

Usage: python -m benchmarks.cluster [--steps 200] [--scenarios]
CPU seconds of this process for the Jobs; seconds by the clock for the scenarios, whose pods are processes of this
machine that fork from a warm one, so that no image is pulled and nothing is imported.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from xml.etree import ElementTree

from mlops_assets.compute import rendering
from mlops_assets.compute.profiles import catalog

SCENARIOS = ("test_scenarios.py", "test_trained_through_preemption.py")
FOLDER = Path(__file__).parents[1] / "mlops_assets_tests" / "cluster"


def jobs(steps: int) -> None:
    """One line a profile: CPU milliseconds a step."""
    rendering.job_of(catalog().render("gpu-spot", "gke"))
    for profile in catalog().profiles:
        began = time.process_time()
        for step in range(steps):
            rendering.job_of(catalog().render(profile, "gke"), step=f"step_{step}")
        spent = time.process_time() - began
        print(f"{profile:12} {steps} Jobs: {spent:.2f} CPU s, {spent / steps * 1000:.1f} ms a step", flush=True)


def scenarios() -> None:
    """One line a scenario: seconds by the clock, and what preparing the cluster took."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        files = [str(FOLDER / name) for name in SCENARIOS]
        subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "--junitxml", report, *files], check=True, stdout=subprocess.DEVNULL
        )
        for case in ElementTree.parse(report).iter("testcase"):
            print(f"{float(case.get('time')):6.1f} s  {case.get('name')}", flush=True)


def main() -> None:
    """Measure what was asked for."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--steps", type=int, default=200)
    arguments.add_argument("--scenarios", action="store_true")
    options = arguments.parse_args()
    jobs(options.steps)
    if options.scenarios:
        scenarios()


if __name__ == "__main__":
    main()
