"""MedVL's library: from raw medical image-text records to a served model, one route for every line.

The rooms follow the route (see ``docs/decisions/0001-identity-fingerprints-places.md``); nothing here imports Dagster.
"""
