"""Templates and static files: loaded once, rendered with every value escaped."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import jinja2
import msgspec

FOLDER = Path(__file__).parent
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
VERSION_LENGTH = 12


class StaticFile(msgspec.Struct, frozen=True):
    """A file that every page may load, with a version that changes when its content does."""

    content: bytes
    media_type: str
    version: str


class Renderer:
    """Makes HTML of a template and values. A value that a template names and nobody gave is an error, never nothing."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self.static_files = _static_files(folder / "static")
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals["static"] = self._address

    def __repr__(self) -> str:
        return f"<Renderer {len(self.static_files)} static files>"

    def html(self, template: str, **values: Any) -> bytes:
        """The page that a template makes of values."""
        return self._environment.get_template(f"{template}.jinja").render(**values).encode()

    def _address(self, name: str) -> str:
        return f"/static/{name}?v={self.static_files[name].version}"


def _static_files(folder: Path) -> dict[str, StaticFile]:
    return {path.name: _static_file(path) for path in sorted(folder.iterdir()) if path.suffix in MEDIA_TYPES}


def _static_file(path: Path) -> StaticFile:
    content = path.read_bytes()
    return StaticFile(content, MEDIA_TYPES[path.suffix], sha256(content).hexdigest()[:VERSION_LENGTH])
