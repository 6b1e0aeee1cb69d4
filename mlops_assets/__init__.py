"""The production life of a machine-learning model, as Dagster assets."""
