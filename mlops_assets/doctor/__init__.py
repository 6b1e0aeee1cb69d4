"""`mlops-assets doctor`: the ten worst habits, found in any Dagster project by reading it, never by running it."""
