"""The forms in which one model is asked, each by a process of its own.

In: what is served and some conversations. Out: what each form said. ``FORMS`` is the list: an exported model becomes one more entry. What
was said is compared in ``evaluation.parity``.
"""

import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess

import httpx2

from medvl_lib.chat import Conversation
from medvl_lib.errors import HeavyStepFailed, MedVLError
from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.fresh import context, die_with_parent, each_alone
from medvl_lib.evaluation.parity import Answers, Form, Heard
from medvl_lib.evaluation.predictions import Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import ImageStore
from medvl_lib.lines import Line
