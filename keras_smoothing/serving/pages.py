"""The page `/docs`: the OpenAPI document as plain HTML."""

import html
import json

from fastapi.responses import HTMLResponse

# The page contains its own style, and loads nothing.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; "
    "style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
}

# Examples with up to this many characters are shown in full.
_LONGEST = 600

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #777; }
body {
  font: 16px/1.5 system-ui, sans-serif; max-width: 54em; margin: 0 auto;
  padding: 2em 1em 4em;
}
h1, h2 { line-height: 1.2; }
h2 { border-top: 1px solid var(--line); padding-top: 1em; margin-top: 2em; }
h2 code { font-size: 1em; }
h3 { font-size: 1em; margin-bottom: 0.3em; }
small { color: var(--soft); font-weight: normal; }
pre {
  background: #8881; border-radius: 6px; padding: 0.8em 1em;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
table { border-collapse: collapse; width: 100%; }
td {
  border-top: 1px solid var(--line); padding: 0.3em 1em 0.3em 0;
  vertical-align: top;
}
"""


def add_pages(app, needs_token):
    """Adds `/docs` to an application.

    Args:
        app: `fastapi.FastAPI`.
        needs_token: bool, whether requests need a token.
    """

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return HTMLResponse(_page(app.openapi(), needs_token), headers=_HEADERS)


def _page(document, needs_token):
    read = _Schemas(document)
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    info = document["info"]
    title = html.escape(info["title"])
    parts = [
        f"<h1>{title} <small>{html.escape(info['version'])}</small></h1>",
        *(
            f"<p>{html.escape(paragraph)}</p>"
            for paragraph in info["description"].split("\n\n")
        ),
        '<p>The same for programs: <a href="openapi.json">openapi.json</a></p>',
        *(_operation(*each, read, needs_token) for each in operations),
        "<h2>Errors</h2>",
        f"<pre>{_json({'error': 'Expected ... Received: ...'})}</pre>",
        _table(sorted(_errors(operations))),
    ]
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _operation(method, path, operation, read, needs_token):
    words = operation.get("description") or operation["summary"]
    parts = [
        f"<h2><code>{method} {html.escape(path)}</code></h2>",
        f"<p>{html.escape(words)}</p>",
    ]
    curl = ["curl"]
    if needs_token and path != "/health":
        curl.append('-H "Authorization: Bearer $TOKEN"')
    if "requestBody" in operation:
        content = _content(operation["requestBody"])
        text = json.dumps(read.example(content))
        curl.append('-H "Content-Type: application/json"')
        curl.append(
            f"-d '{text}'" if len(text) <= _LONGEST else "-d @examples.json"
        )
        parts += ["<h3>Request</h3>", read.fields(content["schema"])]
    curl.append(f"http://127.0.0.1:8000{path}")
    parts.append(f"<pre>{html.escape(' '.join(curl))}</pre>")
    answer = _content(operation["responses"]["200"])
    if answer["schema"].get("type") != "string":
        parts += [
            "<h3>Answer</h3>",
            f"<pre>{_json(read.example(answer))}</pre>",
            read.fields(answer["schema"]),
        ]
    return "\n".join(parts)


def _errors(operations):
    """Pairs of an error status and its reason."""
    return {
        (status, response["description"])
        for _, _, operation in operations
        for status, response in operation["responses"].items()
        if status != "200"
    }


def _content(body):
    """The content of a request or response, which has only one type."""
    (content,) = body["content"].values()
    return content


def _table(rows):
    lines = "".join(
        "<tr>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    return f"<table>{lines}</table>"


def _json(example):
    text = json.dumps(example)
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."
    return html.escape(short)


class _Schemas:
    """Reads the schemas of a document, which refer to each other."""

    def __init__(self, document):
        self._named = document["components"]["schemas"]

    def example(self, content):
        """An example of a request's or response's content."""
        return content.get("example") or self._example(content["schema"])

    def _example(self, schema):
        schema = self._resolved(schema)
        if "examples" in schema:
            return schema["examples"][0]
        if "const" in schema:
            return schema["const"]
        kind = schema.get("type")
        if kind == "object":
            properties = schema.get("properties", {})
            return {name: self._example(of) for name, of in properties.items()}
        if kind == "array":
            return [self._example(schema["items"])]
        return {"boolean": False, "number": 0.5, "integer": 1}.get(kind, "...")

    def fields(self, schema):
        """A table of the schema's named fields; empty if it has none."""
        schema = self._resolved(schema)
        rows = [
            (name, self._kind(of), of.get("description", ""))
            for name, of in schema.get("properties", {}).items()
        ]
        # For a list of objects, show the fields of the objects, too.
        within = "".join(
            self.fields(of["items"])
            for of in schema.get("properties", {}).values()
            if of.get("type") == "array"
        )
        return (_table(rows) if rows else "") + within

    def _kind(self, schema):
        """The schema's type in words."""
        schema = self._resolved(schema)
        if "anyOf" in schema:
            return " or ".join(map(self._kind, schema["anyOf"]))
        kind = schema.get("type", "any")
        if kind == "array":
            least, most = schema.get("minItems"), schema.get("maxItems")
            size = f"{most}: " if least == most else f"{least} to {most}: "
            if most is None:
                size = ""
            return f"list of {size}{self._kind(schema['items'])}"
        if "maximum" in schema:
            return f"{kind}, at most {schema['maximum']:g} in magnitude"
        return kind

    def _resolved(self, schema):
        reference = schema.get("$ref")
        if reference is None:
            return schema
        return self._named[reference.rsplit("/", 1)[1]]
