"""The EHR context of imaging studies: what MIMIC-IV had on record about a patient before a study was taken, as facts and as text.

In: a folder of MIMIC-IV ``hosp`` tables and studies with their times. Out: one ``EhrContext`` per study, in the studies' order
(``contexts``): the facts and what was left out (``facts``), their text within a budget, and the diagnoses of the same admission as a
target with a text of their own (``template``). Which columns may be read at all is a list (``hosp``); that nothing from after the study
came in is judged on what was written (``availability``). Pairs and pictures are the business of a dataset's reader.
"""

REVISION = 1  # first version
