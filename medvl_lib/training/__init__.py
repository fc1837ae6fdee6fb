"""Training: the recipes, and the one route through the trainer for every stage of every line, to answer or to match."""
