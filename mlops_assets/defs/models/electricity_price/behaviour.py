"""How a model of the electricity price has to behave, whatever it learned from."""

from mlops_assets.ml.behaviour import Cases, Subject, moved


def demand_lowers_no_price(model: Subject) -> Cases:
    """With all else equal, more demand makes a price above the mean no less likely, but for a tenth."""
    return moved(model, "up", tolerance=0.1, nswdemand=lambda demand: (demand + 0.1).clip(upper=1))
