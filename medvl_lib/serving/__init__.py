"""Serving: what a line's pointer names, loaded once, and answering as the evaluation heard it answer.

In: the pointer, or the base model where nothing was promoted; pictures and a question. Out: an answer, by the same chat template, pixels and
generation settings as in the evaluation: there is no second way to a text. Which model deserves to be served is decided in ``benchmark``.
"""
