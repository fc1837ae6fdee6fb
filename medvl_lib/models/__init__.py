"""Models: which weights a line starts from, and how they are loaded, built small, and quantized. One module per family.

In: a ``ModelSpec``. Out: a verified directory in the hub's layout, and from it a model with its processor. Which line asks, and
what the model is trained on, is not known here.
"""
