"""What is asked of the resident model, whoever asks: a page, a client of one endpoint or another, a test. No torch and no wire here.

In: turns of a conversation and pictures as they were uploaded. Out: a ``Question``, or a ``Problem`` that says what cannot be asked. Most
ask one thing about some pictures, which ``Question.of`` makes of them; a chat has turns before its last:

    Question.of("List every term.", [page])
    Question(turns=(user("Which organ is this?", num_pictures=1), assistant("Lung"), user("Which side?")), pictures=(scan,))

The desk takes questions in two ways, and both raise a ``Problem`` where nobody can answer: 422 or 415 for what was sent, 429 where too many
wait, 503 while nothing is loaded, 504 where it took too long.

    resident, prediction = await desk.ask(question)  # cancelled, its place is free again

    async with desk.stream(question) as pieces:  # raises before the first piece is there; left early, its place is free again
        async for piece in pieces:
            ...
    pieces.resident, pieces.prediction  # once the last piece is there; the pieces together are prediction.answer
"""

from collections.abc import Sequence
from dataclasses import dataclass

from medvl_lib.chat import Content, Conversation, Message, num_placeholders
from medvl_lib.serving.uploads import MAX_PROMPT_CHARACTERS, Problem

MAX_CHARACTERS = 4 * MAX_PROMPT_CHARACTERS  # of all turns: more than any line takes tokens, and read in a moment
REQUEST_ID = "request"  # of every conversation here: whose it is, is known by its place


def user(text: str, *, num_pictures: int = 0) -> Message:
    """A turn of who asks, its pictures before its text."""
    pictures: list[Content] = [{"type": "image"} for _ in range(num_pictures)]
    return {"role": "user", "content": [*pictures, {"type": "text", "text": text.strip()}]}


def assistant(text: str) -> Message:
    """A turn of the model, as it answered before."""
    return {"role": "assistant", "content": [{"type": "text", "text": text.strip()}]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked; what exists can be asked, as far as its form goes."""

    turns: tuple[Message, ...]
    """User, assistant, ..., user; a picture's place is a part of the turn of a user."""
    pictures: tuple[bytes, ...] = ()
    """Files as they were uploaded, in the order of their places."""
    max_answer_tokens: int | None = None
    """The most tokens of the answer; None, and whatever is more, is the evaluation's own limit."""
    without_adapter: bool = False
    """Whether the weights are to answer as they are, whatever is served on them."""

    def __post_init__(self) -> None:
        """Refuse what no template can write."""
        if not self.turns or any(turn["role"] != ("user", "assistant")[place % 2] for place, turn in enumerate(self.turns)):
            raise Problem(422, found="turns that do not alternate, beginning with the user", do="send user, assistant, ..., user")
        if len(self.turns) % 2 == 0:
            raise Problem(422, found="a last turn of the assistant", do="end with what the user asks")
        if any(part["type"] == "image" for turn in self.turns[1::2] for part in turn["content"]):
            raise Problem(422, found="a picture in a turn of the assistant", do="send pictures in turns of the user")
        if (num_places := num_placeholders(self.conversation(()))) != len(self.pictures):
            raise Problem(422, found=f"{len(self.pictures)} pictures in {num_places} places", do="send one place for each picture")
        if (num_characters := sum(map(len, self.texts))) > MAX_CHARACTERS:
            raise Problem(422, found=f"turns of {num_characters} characters together", do=f"send at most {MAX_CHARACTERS}")
        if self.max_answer_tokens is not None and self.max_answer_tokens < 1:
            raise Problem(422, found=f"an answer of at most {self.max_answer_tokens} tokens", do="ask for 1 or more")

    @classmethod
    def of(cls, prompt: str, pictures: Sequence[bytes] = (), *, max_answer_tokens: int | None = None) -> "Question":
        """One question about pictures, which stand before its words, as every pair of the evaluation has them."""
        turn = user(prompt, num_pictures=len(pictures))
        return cls(turns=(turn,), pictures=tuple(pictures), max_answer_tokens=max_answer_tokens)

    @property
    def company(self) -> tuple[bool, bool]:
        """What has to be alike of questions that are asked together: whether there are pictures, and who is asked."""
        return bool(self.pictures), self.without_adapter

    @property
    def texts(self) -> tuple[str, ...]:
        """What was said so far, turn by turn."""
        return tuple("".join(part.get("text", "") for part in turn["content"]) for turn in self.turns)

    def conversation(self, image_ids: tuple[str, ...]) -> Conversation:
        """The question as the evaluation asks it: before an answer that nobody has given yet."""
        return Conversation(pair_id=REQUEST_ID, image_ids=image_ids, messages=(*self.turns, assistant("")))
