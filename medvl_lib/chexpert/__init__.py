"""CheXpert labels of a chest radiograph's report, by rules: fourteen observations, each present, absent, uncertain or not mentioned.

In: the text of a report. Out: a state for each observation. ``phrases`` says what counts as a mention, ``sentences`` cuts a text into
clauses, ``assertions`` says whether a mention is stated, denied or left open, ``labeler`` puts a report's mentions together. What a label
is compared with is a metric's business; which text of a record is its report, its dataset's.

Written from the published rules: Irvin et al. 2019, arXiv:1901.07031, section 3, and the phrase and pattern lists of
github.com/stanfordmlgroup/chexpert-labeler @ 44ddeb3 (MIT, copyright 2018 Stanford Machine Learning Group; its licence stands beside the
phrases). The original matches patterns on the dependency graphs of a parser; here are tokens and scopes within a clause, so the two differ
on some sentences, and a score from here is a **CheXpert-rule F1**, never a CheXbert F1 and not the publisher's own labels. Not for
diagnosis: a rule reads words, not pictures.
"""

from medvl_lib.chexpert.labeler import REVISION, RULE_SET, label_report
from medvl_lib.chexpert.observations import DEVICES, NO_FINDING, OBSERVATIONS, PATHOLOGIES, STATES, State

__all__ = ["DEVICES", "NO_FINDING", "OBSERVATIONS", "PATHOLOGIES", "REVISION", "RULE_SET", "STATES", "State", "label_report"]
