"""Evaluation: predictions (text out), scores (a number per pair and metric), and their intervals."""
