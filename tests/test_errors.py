"""A refusal is three sentences wherever it was raised. If this passed wrongly, what a measuring process found would reach its parent as a
broken pool, and be told as a want of memory.
"""

import pickle

import pytest

from medvl_lib.errors import HeavyStepFailed, MedVLError, WriteFailed


@pytest.mark.parametrize("kind", [MedVLError, HeavyStepFailed, WriteFailed])
def test_a_refusal_crosses_to_another_process_whole(kind: type[MedVLError]):
    sent = kind(found="no config.json", where="/data/base", do="name a checkpoint")
    received = pickle.loads(pickle.dumps(sent))  # noqa: S301 (our own bytes)
    assert type(received) is kind
    assert str(received) == str(sent)
