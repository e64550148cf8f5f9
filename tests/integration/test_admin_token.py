"""The admin token on disk and in the environment: shown once, kept as a hash that its owner alone reads."""

import stat
from pathlib import Path

import pytest

from billing.access import token
from billing.cli.context import read_settings
from billing.cli.control import TOKEN_FILE, admin_token, new_admin_token, with_admin_token
from billing.errors import InvalidInput, Misconfigured
from billing.settings import Settings
from tests.cli_kit import Terminal

CHOSEN = "a-token-of-the-operators-own"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return Terminal("postgresql://nobody@127.0.0.1:9/none", tmp_path / "data")


def test_a_new_token_is_printed_once_and_its_hash_is_kept_for_the_owner(
    terminal: Terminal, tmp_path: Path
) -> None:
    path = tmp_path / "data" / TOKEN_FILE
    assert "is not there yet" in terminal.ok("admin-token")
    text = terminal.ok("admin-token", "--new").strip()
    assert text.startswith(token.MARK)
    assert path.read_text() == f"{token.hash_of(text)}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    shown = terminal.ok("admin-token")
    assert "holds the hash of a token" in shown
    assert text not in shown
    assert [each.name for each in path.parent.iterdir()] == [TOKEN_FILE]


def test_a_new_one_takes_the_place_of_the_one_before(terminal: Terminal, tmp_path: Path) -> None:
    texts = {terminal.ok("admin-token", "--new").strip() for _ in range(2)}
    assert len(texts) == 2
    found = with_admin_token(Settings(data_dir=tmp_path / "data")).admin_token_hash
    assert [token.matches(text, str(found)) for text in texts].count(True) == 1


def test_on_first_use_a_token_is_made_and_later_only_its_hash_is_known(tmp_path: Path) -> None:
    text, kept = admin_token(tmp_path)
    assert text is not None
    assert token.matches(text, kept)
    assert admin_token(tmp_path) == (None, kept)
    assert new_admin_token(tmp_path)[1] != kept


def test_the_environments_token_wins_over_the_file(tmp_path: Path) -> None:
    new_admin_token(tmp_path)
    settings = read_settings({"BILLING_ADMIN_TOKEN": CHOSEN, "BILLING_DATA_DIR": str(tmp_path)})
    assert with_admin_token(settings).admin_token_hash == token.hash_of(CHOSEN)
    assert CHOSEN not in repr(settings)
    assert read_settings({"BILLING_ADMIN_TOKEN": ""}).admin_token_hash is None


def test_a_token_that_can_be_guessed_is_refused_without_repeating_it() -> None:
    with pytest.raises(InvalidInput, match="BILLING_ADMIN_TOKEN: a token has 20 to 512 characters") as caught:
        read_settings({"BILLING_ADMIN_TOKEN": "hunter2"})
    assert "hunter2" not in str(caught.value)


def test_a_file_that_holds_no_hash_is_said(tmp_path: Path) -> None:
    (tmp_path / TOKEN_FILE).write_text("adm-the-token-itself")
    with pytest.raises(Misconfigured, match="make another by billing admin-token --new") as caught:
        admin_token(tmp_path)
    assert "itself" not in str(caught.value)
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="cannot be written"):
        new_admin_token(tmp_path / "file")
