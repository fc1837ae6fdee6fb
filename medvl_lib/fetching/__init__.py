"""Acquisition: a publisher's files, brought whole and checked into a raw folder.

In: a dataset's ``Acquisition``, and limits. Out: files in the raw folder, and beside the downloads ``fetch.json``, which says what came
from where within which limits, and ``files.parquet``, which names each file with its hash. What the files mean is the reader's business.
"""
