import re
from pathlib import Path

import jinja2
import pytest

from billing.dashboard.render import FOLDER, Renderer

HOSTILE = "<script>alert(1)</script>"


def test_every_value_is_escaped() -> None:
    page = Renderer().html("problem", title=HOSTILE, text=HOSTILE).decode()
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") == 3


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        Renderer().html("problem", title="without a text")


def test_an_address_of_a_static_file_changes_with_its_content(tmp_path: Path) -> None:
    addresses = []
    for content in ("a", "b"):
        folder = tmp_path / content
        (folder / "static").mkdir(parents=True)
        (folder / "templates").mkdir()
        (folder / "static" / "page.css").write_text(content)
        (folder / "templates" / "page.jinja").write_text("{{ static('page.css') }}")
        addresses.append(Renderer(folder).html("page").decode())
    assert len(set(addresses)) == 2
    assert all(address.startswith("/static/page.css?v=") for address in addresses)


@pytest.mark.parametrize("path", sorted((FOLDER / "templates").iterdir()), ids=lambda path: path.name)
def test_no_template_carries_style_or_script_or_unescaped_text_in_itself(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"\sstyle=|\son[a-z]+=|<style|<script(?! src=)|\|\s*safe|autoescape", text)


def test_the_script_is_small() -> None:
    assert len(Renderer().static_files["page.js"].content.splitlines()) < 100
