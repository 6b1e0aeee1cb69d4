import pytest

from mlops_assets_tests.doctor.writing import found, marked

HEAD = """import random
import random as chance
import time
import numpy as np
import pandas as pd
import sklearn.ensemble
import torch
from numpy.random import default_rng as rng, rand
from sklearn.cluster import KMeans
from sklearn.model_selection import KFold, RandomizedSearchCV, train_test_split as halve
from torch.utils.data import DataLoader
import dagster as dg

SEED = 7

@dg.asset
def result(rows: pd.DataFrame, columns, config, **kwargs):
"""
UNSEEDED = [
    "np.random.normal(size=3)",
    "rand(3)",
    "np.random.default_rng()",
    "rng(None)",
    "np.random.RandomState()",
    "random.shuffle(columns)",
    "chance.choice(columns)",
    "random.Random()",
    "halve(rows, columns, test_size=0.2)",
    "halve(rows, random_state=None)",
    "sklearn.ensemble.RandomForestClassifier(n_estimators=5).fit(rows, columns)",
    "KMeans(3)",
    "KFold(5, shuffle=True)",
    "RandomizedSearchCV(config, {})",
    "rows.sample(frac=0.1)",
    "rows[columns].sample(n=100)",
    "torch.randn(3, 3)",
    "DataLoader(rows, shuffle=True)",
]
SEEDED = [
    "np.random.default_rng(SEED).normal(size=3)",
    "rng(seed=config.seed)",
    "random.Random(SEED).shuffle(columns)",
    "halve(rows, columns, random_state=SEED)",
    "halve(rows, columns, shuffle=False)",
    "halve(rows, **kwargs)",
    "sklearn.ensemble.RandomForestClassifier(random_state=config.seed)",
    "KFold(5)",
    "rows.sample(frac=0.1, random_state=SEED)",
    "rows.sample(frac=0.1, seed=SEED)",
    "config.sampler.sample(columns)",
    "DataLoader(rows, shuffle=True, generator=config.generator)",
    "time.sleep(random.uniform(0, 1))",
    "rows.sample(n=5).to_markdown()",
]


@pytest.mark.parametrize("line", UNSEEDED)
def test_a_draw_without_a_seed_is_found(tmp_path, line):
    text = f"{HEAD}    return {line}  # <-\n"
    assert found(tmp_path, text) == marked("unseeded", text)


@pytest.mark.parametrize("line", SEEDED)
def test_a_draw_with_a_seed_or_without_a_say_in_the_result_is_not(tmp_path, line):
    assert found(tmp_path, f"{HEAD}    return {line}\n") == []


def test_a_draw_that_makes_up_a_name_is_not_the_result(tmp_path):
    text = """
        import random
        import dagster as dg

        def job_name():
            return "".join(random.choice("abc") for _ in range(9))

        @dg.asset
        def result():
            suffix = random.randint(0, 9)
            return job_name(), suffix
        """
    assert found(tmp_path, text) == []


def test_a_seed_set_on_the_way_counts_and_only_for_its_own_generator(tmp_path):
    text = """
        import random
        import numpy as np
        import dagster as dg

        @dg.asset
        def result():
            np.random.seed(7)
            return np.random.rand(3), random.random()  # <-
        """
    assert found(tmp_path, text) == marked("unseeded", text)


def test_what_an_asset_calls_is_looked_at_and_what_nothing_calls_is_not(tmp_path):
    files = {
        "small/fitting.py": """
            from sklearn.ensemble import ExtraTreesRegressor

            class Trainer:
                def train(self, rows):
                    return self._fit(rows)

                def _fit(self, rows):
                    return ExtraTreesRegressor().fit(rows)  # <-

            def notebook(rows):
                return ExtraTreesRegressor().fit(rows)
            """,
        "small/assets.py": """
            import dagster as dg
            from .fitting import Trainer

            @dg.asset
            def model(rows, trainer: dg.ResourceParam[Trainer]):
                return trainer.train(rows)
            """,
    }
    assert found(tmp_path, files) == marked("unseeded", files)


def test_a_parameter_that_is_named_like_a_module_is_not_the_module(tmp_path):
    text = """
        import random
        import dagster as dg

        def drawn(random):
            return random.choice([1, 2])

        @dg.asset
        def result(config):
            return drawn(random.Random(config.seed))
        """
    assert found(tmp_path, text) == []
