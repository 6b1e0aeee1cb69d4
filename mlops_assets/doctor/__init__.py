"""`mlops-assets doctor`: the ten worst habits in any Dagster project, found by reading it, never by importing or running it."""
