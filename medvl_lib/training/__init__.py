"""Training: the recipe, and the one route through TRL's trainer for every stage of every line."""
