"""How a model of bicycle rentals has to behave, whatever it learned from."""

from mlops_assets.ml.behaviour import Cases, Subject, moved, unmoved


def a_storm_raises_no_demand(model: Subject) -> Cases:
    """With all else equal, heavy rain or snow brings at most a few more rentals an hour than a clear sky."""
    return moved(model, "down", tolerance=10, weathersit=3)


def a_little_wind_changes_little(model: Subject) -> Cases:
    """A reading of the wind that is a hundredth higher moves the answer by at most 25 rentals an hour."""
    return unmoved(model, tolerance=25, windspeed=lambda wind: (wind + 0.01).clip(upper=1))
