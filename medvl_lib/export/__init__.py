"""Export: what a line serves as folders that others load, with a card that says what it is, and proof that it answers as it was judged.

In: what is served, its evaluation, and an empty place. Out: a folder in the hub's layout. What is exported, and by which decision, is found
by ``route.exporting``; weights are written by ``models.exporting``.
"""
