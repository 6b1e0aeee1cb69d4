"""What runs here: one folder a model, the resources of this environment, and what watches over all of them."""
