"""The sets that MedVL reads: one module per dataset, each with ``read(root)`` and ``DATASET``.

In: nothing. Out: ``DATASETS``, in which a new dataset is one entry. A module turns the publisher's files into drafts and rejections
in their given order; it never filters, shuffles, resizes or opens a picture. Whether a pair is good enough is decided in ``validation``.
"""

from medvl_lib.datasets import clinical_documents, mtsamples, pathvqa, pubmedvision
from medvl_lib.pairs import Dataset

DATASETS: dict[str, Dataset] = {module.DATASET.name: module.DATASET for module in (clinical_documents, mtsamples, pathvqa, pubmedvision)}
