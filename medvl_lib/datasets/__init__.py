"""The sets that MedVL reads: one module per dataset, each with ``read(root)`` and ``DATASET``.

In: nothing. Out: ``DATASETS``, in which a new dataset is one entry, and what of them may be shown. A module turns the publisher's files
into drafts and rejections in their given order; it never filters, shuffles, resizes or opens a picture. Whether a pair is good enough is
decided in ``validation``.
"""

from medvl_lib.datasets import (
    clinical_documents,
    custom_reports,
    knee_xray,
    mimic_cxr,
    mtsamples,
    pad_ufes_20,
    pathvqa,
    pubmedvision,
    roco,
    slake,
)
from medvl_lib.pairs import Dataset

DATASETS: dict[str, Dataset] = {
    module.DATASET.name: module.DATASET
    for module in (
        clinical_documents, mtsamples, pathvqa, pubmedvision,
        knee_xray, pad_ufes_20, slake, custom_reports, roco,
        mimic_cxr,
    )
}  # fmt: skip
SHOWN_LICENCES: dict[str, str] = {name: dataset.licence for name, dataset in DATASETS.items() if dataset.may_be_shown}
"""Datasets whose cards say that rows and pictures may be shown, and the licence for which they say so."""
