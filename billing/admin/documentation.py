"""The OpenAPI document and the page that shows it, from assets on this machine: no foreign server is asked."""

from pathlib import Path
from typing import Any

import msgspec
import swagger_ui
from litestar import MediaType, Request, Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath

from billing.errors import NotFound

DOCUMENT_PATH = "/api/v1/openapi.json"
PAGE_PATH = "/api/docs"
SCHEME = "admin_token"
ASSETS = {
    "swagger-ui.css": "text/css",
    "swagger-ui-bundle.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
"""Of the package's files these alone are served."""
_ASSET_FOLDER = Path(swagger_ui.__file__).with_name("static")

# What the page runs stands in a file of its own: the content security policy forbids scripts inside a page.
_START = f"""window.ui = SwaggerUIBundle({{
  url: "{DOCUMENT_PATH}", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis], layout: "BaseLayout", defaultModelsExpandDepth: 0,
}});
"""
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Billing admin API</title>
<link rel="stylesheet" href="{PAGE_PATH}/assets/swagger-ui.css">
<link rel="icon" type="image/png" href="{PAGE_PATH}/assets/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{PAGE_PATH}/assets/swagger-ui-bundle.js"></script>
<script src="{PAGE_PATH}/assets/start.js"></script>
</body>
</html>
"""
_INTRODUCTION = """
Everything an operator does: who is billed, what answers, what it costs, and what was used.

Send the admin token as `Authorization: Bearer …`. Errors are problems (RFC 9457). Lists come in pages: send `next` of
a page as `after`. Amounts are decimal text, instants RFC 3339 in UTC. Every write is in the audit log.

The examples are one story: on an empty server each is accepted once what it names is made (two backends, `gpu-1` and
`gpu-2`), and answered as shown. Ids, keys and instants in them are placeholders; on your server they are others.
"""


class _Page(OpenAPIRenderPlugin):
    """The page, at the root of the documentation's path."""

    def __init__(self) -> None:
        super().__init__(path="/")

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The page, which asks for the document by itself."""
        del request, openapi_schema
        return _PAGE.encode()


def openapi_config(version: str) -> OpenAPIConfig:
    """What Litestar needs to describe the API and to serve the page."""
    scheme = SecurityScheme(type="http", scheme="bearer", description="The admin token.")
    return OpenAPIConfig(
        title="Billing admin API",
        version=version,
        description=_INTRODUCTION.strip(),
        path=PAGE_PATH,
        render_plugins=[_Page()],
        use_handler_docstrings=True,
        components=Components(security_schemes={SCHEME: scheme}),
    )


@get(DOCUMENT_PATH, include_in_schema=False, media_type=MediaType.JSON, sync_to_thread=False)
def openapi_document(request: Request[Any, Any, Any]) -> bytes:
    """The OpenAPI 3.1 document."""
    return msgspec.json.encode(request.app.openapi_schema.to_schema())


@get(f"{PAGE_PATH}/assets/{{name:str}}", include_in_schema=False, sync_to_thread=False)
def asset(name: FromPath[str]) -> Response[bytes]:
    """A file that the page needs."""
    if name == "start.js":
        content, kind = _START.encode(), "text/javascript"
    elif name in ASSETS:
        content, kind = (_ASSET_FOLDER / name).read_bytes(), ASSETS[name]
    else:
        raise NotFound(f"there is no file {name[:80]!r}")
    return Response(content, media_type=kind, headers={"cache-control": "no-cache"})
