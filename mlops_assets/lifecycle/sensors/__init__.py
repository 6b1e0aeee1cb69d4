"""The sensors: one module each. All but `new_data` look at every model at once."""
