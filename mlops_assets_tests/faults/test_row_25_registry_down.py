"""Row 25: MLflow goes away at each of four moments of a training; nothing is lost, and nothing is half promoted."""

import time

import pytest

from mlops_assets.lifecycle.endings import ending_of
from mlops_assets.ml.planning import TRAINING
from mlops_assets.resources.registry import Registry
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests.lifecycle.stages import run, validated
from mlops_assets_tests.lifecycle.test_champion import NOBODY, AliasesDown

pytestmark = [pytest.mark.fault(25), pytest.mark.timeout(600)]


class GoneAfterTheFit(Tracking):
    """MLflow, which takes the run and goes away before the model is logged."""

    def log_model(self, *fitted):
        """Ask where nobody listens."""
        return Tracking(root=self.root, tracking_uri=NOBODY).log_model(*fitted)


def away(moment, root, uri):
    """The resources at one of four moments."""
    return {
        "start": {"tracking": Tracking(root=root, tracking_uri=NOBODY)},
        "mid-train": {"tracking": GoneAfterTheFit(root=root, tracking_uri=uri)},
        "register": {"registry": Registry(root=root, tracking_uri=NOBODY)},
        "alias": {"registry": AliasesDown(root=root, tracking_uri=uri)},
    }[moment]


@pytest.mark.parametrize(("moment", "done"), [("start", 0), ("mid-train", 0), ("register", 2), ("alias", 3)])
def test_a_registry_that_is_down_loses_no_model_and_leaves_no_half_promotion(workshop, record_figure, moment, done):
    shop = validated(workshop())
    well = dict(shop.resources)
    before = TRAINING[:done]
    if before:
        assert run(shop, *before).success
    shop.resources.update(away(moment, str(shop.home), well["registry"].tracking_uri))
    began = time.perf_counter()
    result = run(shop, *TRAINING[done:])
    seconds = time.perf_counter() - began
    assert ending_of(shop.instance, result.dagster_run) == "outage"
    assert well["registry"].champion("toy") is None
    shop.resources.update(well)
    assert run(shop, *TRAINING[done:]).success
    serving = well["registry"].champion("toy")
    kinds = [link.entry.kind for link in well["ledger"].links("toy")]
    record_figure(
        moment=moment,
        lost_models=int(serving is None),
        half_promotions=int(kinds != ["released", "confirmed"]),
        blocked_seconds=round(seconds, 1),
    )
    assert (serving.number, kinds) == (1, ["released", "confirmed"])
    assert len(well["registry"].versions("toy")) == 1
