"""``/docs``: the OpenAPI document as a page, without a script and without anything from elsewhere.

FastAPI's own page loads its scripts from another server, which a ward's network does not reach, and which would be told who asks. What this
page cannot do is send requests: it shows a line for ``curl`` instead.
"""

from functools import cache
from html import escape
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse

POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; background: #fff }
h2 { margin-top: 2.5rem; border-top: 1px solid #ccc; padding-top: 1rem } code, pre { background: #f3f3f3; padding: .1em .3em }
pre { padding: .8em; overflow-x: auto } table { border-collapse: collapse; width: 100% } td, th { text-align: left; padding: .3em .6em;
border-bottom: 1px solid #ddd; vertical-align: top }
"""


def reference_router(app: FastAPI) -> APIRouter:
    """The page of this application."""
    router = APIRouter(include_in_schema=False)

    @cache
    def page() -> str:
        return _page(app.openapi())

    @router.get("/docs")
    def docs() -> HTMLResponse:
        """What can be asked, and how."""
        return HTMLResponse(page(), headers={"Content-Security-Policy": POLICY})

    return router


def _page(document: dict[str, Any]) -> str:
    operations = [
        _operation(document, path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = escape(document["info"]["title"])
    summary = escape(document["info"]["summary"])
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head><body><h1>{title}</h1>'
        f'<p>{summary} For programs: <a href="openapi.json">openapi.json</a>.</p>{"".join(operations)}</body></html>'
    )


def _operation(document: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [(one["name"], one["schema"], one.get("description", "")) for one in operation.get("parameters", [])]
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        schema = _resolved(document, body["schema"])
        rows += [(f"{name} ({kind.partition('/')[2]})", part, part.get("description", "")) for name, part in schema["properties"].items()]
    asked = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, _, text in rows)
    told = "".join(
        f"<tr><td>{escape(status)}</td><td>{escape(one['description'])}</td></tr>" for status, one in operation["responses"].items()
    )
    return (
        f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(operation.get('description', ''))}</p>"
        f"{f'<h3>Asked</h3><table>{asked}</table>' if asked else ''}<h3>Answered</h3><table>{told}</table>"
    )


def _resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    return schema if reference is None else document["components"]["schemas"][reference.rpartition("/")[2]]
