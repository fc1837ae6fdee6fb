"""Blinded ratings: what experts make of the answers, when they do not know whose they are.

In: the answers of one evaluation. Out: a sheet that shows them under opaque ids in random order (``sheet``), with the key that tells which
variant an id is kept apart; the sheets that came back, read strictly (``filled``); each rating with its answer's variant (``tables``); and
their means and agreement with intervals (``summaries``, ``written``). Who may be shown what is decided by the data card, and by a person's
word for the raters; nothing here decides what is promoted.
"""
