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
    raw_folder,
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
SHOWN_LICENCES: dict[str, tuple[str, ...]] = {
    name: (*([dataset.licence] if dataset.may_be_shown else []), raw_folder.INVENTED_LICENCE) for name, dataset in DATASETS.items()
}
"""Of each dataset the licences under which rows and pictures may be shown: its own if its card says so, and that of what is invented."""
