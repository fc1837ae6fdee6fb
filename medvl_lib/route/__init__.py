"""The route: every step of a dataset and of a line, in order, as values. Raw records in, a promotion decision out.

    raw_records -> pairs -> validated_pairs -> split -> chat -> audit -> adapter -> predictions -> scores -> benchmark -> promotion

In: a dataset with its settings, or a line with a profile. Out: ``Step`` values that the asset graph and the heavy processes both run. What
a step does stands in its room: here it is only connected. Rooms that need torch are imported when a heavy step runs, never before.
"""
