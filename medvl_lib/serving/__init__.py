"""Serving: what a line's pointer names, loaded once, and answering as the evaluation heard it answer.

In: the pointer, or the base model where nothing was promoted; pictures and a question. Out: an answer, by the template, the pixels and the
generation settings of the evaluation: there is no second way to a text. Which model deserves to be served is decided in ``benchmark``.
"""
