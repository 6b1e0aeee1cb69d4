"""What runs where models serve: it imports what a model needs to be served, and nothing that only training needs."""
