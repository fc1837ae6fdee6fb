"""The OpenAPI document and the server hold each other to their word: schemathesis draws requests from the one and sends them to the other.

If this passed wrongly, a client that was written after the document would meet statuses, fields or media types that it does not name.
"""

import io
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from tests.serving.conftest import PAGE
from tests.serving.files import page, pdf

pytestmark = pytest.mark.slow

WHOLE = [PAGE, pdf([page((10, 200, 30), (60, 60))])]
MAX_EXAMPLES = 25


def _small(form: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (30, 30)).save(out, form)
    return out.getvalue()


schemathesis.openapi.format("binary", st.sampled_from([*WHOLE, _small("PNG"), _small("JPEG")]) | st.binary(max_size=64))


def operations(document: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((path, method.upper()) for path, methods in document["paths"].items() for method in methods)


OPERATIONS = [
    ("/analyze", "POST"), ("/analyze/batch", "POST"), ("/benchmark", "GET"), ("/describe", "POST"), ("/embed", "POST"),
    ("/extract", "POST"), ("/extract/batch", "POST"), ("/health", "GET"), ("/similar", "POST"),
    ("/v1/chat/completions", "POST"), ("/v1/models", "GET"), ("/v1/models/{model}", "GET"),
]  # fmt: skip


def test_these_are_all(base: httpx2.Client):
    assert operations(base.get("/openapi.json").json()) == OPERATIONS


ASKED_NOTHING = ["/health", "/v1/models"]
"""What has no parameter cannot be asked otherwise than the document says."""
WAYS = [
    pytest.param(path, method, mode, id=f"{method} {path} {mode.value}")
    for path, method in OPERATIONS for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if mode == GenerationMode.POSITIVE or path not in ASKED_NOTHING
]  # fmt: skip
UNSAID = [positive_data_acceptance, negative_data_rejection]
"""That bytes are a picture, and a name that of the served line, no schema can say; and in a form every number is a text."""


@pytest.mark.parametrize(("path", "method", "mode"), WAYS)
def test_what_the_document_says_holds(base: httpx2.Client, path: str, method: str, mode: GenerationMode):
    """No 5xx; statuses, media types and fields as the document names them; and every other check of schemathesis."""
    is_form = method == "POST" and not path.startswith("/v1/")
    excluded = UNSAID if is_form else [positive_data_acceptance]
    schema = schemathesis.openapi.from_url(f"{str(base.base_url).rstrip('/')}/openapi.json")

    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    @settings(
        max_examples=MAX_EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    def holds(case: schemathesis.Case) -> None:
        case.call_and_validate(excluded_checks=excluded, timeout=60)

    holds()
