"""Pretraining of the small models: from random weights to a base that reads part of a document.

In: a family's name. Out: a directory in the hub's layout with weights, log, model card and figures, whose hash is pinned in
``models.shipped``. It is run by hand (``medvl pretrain-tiny``) when a small model is made anew, never by the asset graph. Fine-tuning a
base on somebody's data is ``training``'s work.
"""
