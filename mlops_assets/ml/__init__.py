"""The logic: pandas in, values out. No Dagster, no MLflow, no environment and no network."""
