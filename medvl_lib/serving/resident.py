"""A resident model: loaded once, asked one question at a time, by the very code that the evaluation asks with.

In: a ``ServedModel``, and pictures as they were uploaded. Out: a ``Prediction``. ``evaluation.answering`` renders, tokenizes and generates;
here its pictures come from memory instead of the image store. The wire, and who may ask, are ``app``'s.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medvl_lib.evaluation.answering import Speaker
from medvl_lib.evaluation.predictions import Condition, Prediction
from medvl_lib.hardware import Profile
from medvl_lib.images import Pictures
from medvl_lib.lines import Line
from medvl_lib.models.loading import attach, load
from medvl_lib.serving.question import Question
from medvl_lib.serving.served import ServedModel

ADAPTER = "served"  # what the one adapter is called on its weights


@dataclass(frozen=True, slots=True)
class Uploads:
    """Pictures of one request, by their SHA-256: the image store's interface, and nothing on disk."""

    by_id: Mapping[str, bytes]

    def read(self, image_id: str) -> bytes:
        """The uploaded bytes."""
        return self.by_id[image_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """A model that can be asked; not by two threads at once."""

    model: ServedModel
    speaker: Speaker

    @property
    def precision(self) -> str:
        """What the weights really are: ``nf4+float32``."""
        return self.speaker.loaded.precision

    def answer(self, request: str, pictures: Sequence[bytes]) -> Prediction:
        """What the model says to a question about these pictures; they must be readable by ``images.rgb_pixels``."""
        return self.say(Question.of(request, pictures))

    def say(self, question: Question) -> Prediction:
        """What the model says to a question; its pictures must be readable by ``images.rgb_pixels``."""
        ids = tuple(hashlib.sha256(data).hexdigest() for data in question.pictures)
        uploads = Uploads(dict(zip(ids, question.pictures, strict=True)))
        speaker = replace(self.speaker, adapter=None, variant=self.model.weights_variant) if question.without_adapter else self.speaker
        [answered] = replace(speaker, images=uploads).answer([question.conversation(ids)], batch_id=0)
        return answered


def load_resident(model: ServedModel, line: Line, profile: Profile, images: Pictures | None = None) -> Resident:
    """Load what is served, with its adapter on top where it has one; ``images`` are what conversations name by id, if any are asked."""
    loaded = load(model.weights.directory, line.model, profile)
    if model.adapter is not None:
        loaded = attach(loaded, {ADAPTER: model.adapter.directory})
    as_is: Condition = "as_is"
    speaker = Speaker(
        variant=model.variant, condition=as_is, loaded=loaded, evaluation=line.evaluation, images=Uploads({}) if images is None else images,
        profile=profile, adapter=None if model.adapter is None else ADAPTER,
    )  # fmt: skip
    return Resident(model=model, speaker=speaker)
