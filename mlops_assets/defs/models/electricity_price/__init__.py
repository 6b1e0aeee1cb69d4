"""Whether electricity costs more than in the day before, for each half-hour of a week."""
