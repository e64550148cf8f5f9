"""The ``billing`` command on a real database: what a newcomer types, and what is printed."""

import asyncio
import json
from pathlib import Path
from uuid import UUID

import pytest

from billing.infra.system import user_name
from billing.tenants import api_key
from billing.tokens.usage import Outcome, Provenance
from tests.cli_kit import Terminal, words
from tests.invoice_kit import at, record, save, usage, usage_id
from tests.metering_kit import sql

PLAN = Path(__file__).parents[2] / "examples/plans/demo.yaml"
USED = usage_id("2026-11-02T10:00:00Z", 1)
KILLED = usage_id("2026-11-03T10:00:00Z", 2)


@pytest.fixture
def terminal(migrated_url: str, tmp_path: Path) -> Terminal:
    return Terminal(migrated_url, tmp_path)


@pytest.fixture
def furnished(terminal: Terminal) -> Terminal:
    """Tenant, project, key, backend, model and plan, all by commands; then some usage by the recorder's statement."""
    tenant = terminal.json("tenants", "create", "acme", "--name", "Acme [Inference] Ltd")
    project = terminal.json("projects", "create", "web", "--tenant", "acme")
    key = terminal.json("keys", "create", "--tenant", "acme", "--project", "web", "--name", "laptop")
    backend = terminal.json(
        "backends", "add", "local", "--url", "http://127.0.0.1:8080", "--engine", "llama.cpp"
    )
    terminal.ok("models", "add", "golden", "--backend", "local=golden.gguf", "--alias", "gpt-4")
    terminal.ok("plans", "apply", str(PLAN))
    terminal.ok("subscriptions", "create", "--tenant", "acme", "--plan", "demo", "--starts-at", "2026-11-01")
    owned = {
        "tenant_id": UUID(tenant["id"]), "project_id": UUID(project["id"]), "key_id": UUID(key["id"]),
        "backend_id": UUID(backend["id"]),
    }  # fmt: skip
    records = [
        record(USED, usage(1_013, 53, cached=1_008, reasoning=20), **owned),
        record(usage_id("2026-11-02T10:00:00Z", 2), usage(987, 0), model="embed", **owned),
        record(
            KILLED,
            usage(None, 40, provenance=Provenance.RUNNING),
            outcome=Outcome.INTERRUPTED,
            status=0,
            **owned,
        ),
        record(usage_id("2026-11-03T10:00:00Z", 3), usage(100, 50, provenance=Provenance.ESTIMATED), **owned),
    ]
    asyncio.run(save(terminal.url, records, at("2026-11-03T10:00:01Z")))
    return terminal


PREVIEW = """\
                                     Price
 Model      Component       Tokens   per 1,000    Amount
 ───────────────────────────────────────────────────────
 embed      uncached input     987        0.10    0.0987
 golden     uncached input       5        0.50    0.0025
            cached input     1,008        0.05    0.0504
            answer output       33        1.50    0.0495
            reasoning           20        1.00    0.0200

 Subtotal   exact            2,053                0.2211
 Total      rounded once                   USD      0.22

 Not billed     Outcome       Provenance   Requests   Tokens   Worth
 ───────────────────────────────────────────────────────────────────
 waived         interrupted   unknown             1       40   0.060
 under review   complete      estimated           1      150   0.125

Waived: the caller did not get a whole answer. Under review: how much it was is estimated or unknown.
"""


def test_the_preview_of_acme_is_what_was_calculated_by_hand(furnished: Terminal) -> None:
    printed = furnished.ok("invoices", "preview", "--tenant", "acme", "--period", "2026-11")
    title, about, *table = printed.splitlines()
    assert title == "Invoice preview · Acme [Inference] Ltd (acme) · November 2026"
    assert about.startswith("Demo prices, per 1,000 tokens · 2026-11-01 to 2026-12-01 UTC · as of 20")
    assert words("\n".join(table)) == words(PREVIEW)


def test_the_preview_as_json_has_exact_decimals_as_text(furnished: Terminal) -> None:
    found = furnished.json("invoices", "preview", "--tenant", "acme", "--period", "2026-11")
    assert [(line["model"], line["component"], line["quantity"], line["price"], line["per"], line["amount"]) for line in found["lines"]] == [
        ("embed", "uncached_input", 987, "0.1", 1000, "0.0987"),
        ("golden", "uncached_input", 5, "0.5", 1000, "0.0025"),
        ("golden", "cached_input", 1008, "0.05", 1000, "0.0504"),
        ("golden", "answer_output", 33, "1.5", 1000, "0.0495"),
        ("golden", "reasoning", 20, "1", 1000, "0.02"),
    ]  # fmt: skip
    assert (found["subtotal"], found["total"], found["total_minor"], found["currency"]) == (
        "0.2211",
        "0.22",
        22,
        "USD",
    )
    assert (found["waived"]["amount"], found["under_review"]["amount"]) == ("0.06", "0.125")
    assert (found["status"], found["period"], found["start"], found["end"]) == (
        "preview", "2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z",
    )  # fmt: skip


def test_usage_counts_what_the_preview_counts(furnished: Terminal) -> None:
    found = furnished.json("usage", "--tenant", "acme", "--period", "2026-11")
    preview = furnished.json("invoices", "preview", "--tenant", "acme", "--period", "2026-11")
    assert (
        found["tokens"]
        == preview["tokens"]
        + preview["tokens_unrated"]
        + preview["waived"]["tokens"]
        + preview["under_review"]["tokens"]
        == 2_243
    )
    assert found["outcomes"] == {"complete": 3, "interrupted": 1}
    printed = words(furnished.ok("usage", "--tenant", "acme", "--period", "2026-11"))
    assert ["golden", "estimated", "uncached", "input", "1", "100"] in printed
    assert ["unknown", "answer", "output", "1", "40"] in printed
    assert ["All", "4", "2,243"] in printed
    assert printed[-1] == ["Requests:", "complete", "3", "·", "interrupted", "1"]
    sentence = "A request stands under the weakest provenance among its counts; billing trace shows each count's own."
    assert [*printed[-3], *printed[-2]] == sentence.split()
    assert found["requests_unknown"] == 1
    [killed] = [line for line in found["lines"] if line["provenance"] == "none"]
    assert (killed["components"]["uncached_input"], killed["components"]["answer_output"]) == (None, 40)


@pytest.mark.parametrize("command", ["usage", "invoices preview"])
def test_a_table_fits_eighty_columns(furnished: Terminal, command: str) -> None:
    furnished.environment["COLUMNS"] = "80"
    _, _, *shown = furnished.ok(*command.split(), "--tenant", "acme", "--period", "2026-11").splitlines()
    tables = [line for line in shown if not line.startswith(("Waived", "Unrated"))]
    assert max(map(len, tables)) <= 80


def test_a_trace_shows_the_way_the_counts_and_the_arithmetic(furnished: Terminal) -> None:
    lines = [" ".join(each) for each in words(furnished.ok("trace", str(USED)))]
    assert lines[0] == f"Request {USED}"
    for expected in (
        "Tenant acme (Acme [Inference] Ltd)",
        "Answered by local (llama.cpp, http://127.0.0.1:8080)",
        "Time first token after 12.3 ms · each further token 4.1 ms · in all 230.4 ms",
        "input 1,013 reported usage",
        "cached input 1,008 0.05 1,000 0.0504 demo v1, golden",
        "Estimate USD 0.1224 until the period is closed",
        "This request will be billed.",
    ):
        assert expected in lines
    found = furnished.json("trace", str(USED))
    assert (found["amount"], found["amount_is_estimate"], found["counts"]["reasoning"]["value"]) == (
        "0.1224",
        True,
        20,
    )


def test_a_trace_of_a_killed_request_says_what_is_unknown(furnished: Terminal) -> None:
    lines = [" ".join(each) for each in words(furnished.ok("trace", str(KILLED)))]
    assert "input unknown – –" in lines
    assert "output 40 running usage" in lines
    assert "Outcome interrupted, status not known" in lines
    assert lines[-1] == "This request is waived: not billed."


def test_what_was_set_up_is_listed(furnished: Terminal) -> None:
    for command, row in (
        (("tenants", "list"), "acme Acme [Inference] Ltd active UTC"),
        (("projects", "list", "--tenant", "acme"), "web web"),
        (("keys", "list", "--tenant", "acme"), "laptop web active"),
        (("backends", "list"), "local llama.cpp http://127.0.0.1:8080 none"),
        (("models", "list"), "golden gpt-4 local=golden.gguf"),
        (("plans", "list"), "demo USD 1 2026-01-01 00:00 Demo prices, per 1,000 tokens"),
        (("plans", "show", "demo"), "golden 1,000 0.50 0.05 0.50 1.50 1.00"),
        (("plans", "show", "demo"), "* 1,000 0.10 0.10 0.10 free free"),
        (("subscriptions", "list", "--tenant", "acme"), "demo USD 2026-11-01 00:00 open"),
    ):
        lines = [" ".join(each) for each in words(furnished.ok(*command))]
        assert any(row in line for line in lines), lines
        assert json.loads(furnished.ok(*command, "--json"))


def test_a_key_is_shown_once_and_alone_on_standard_output(terminal: Terminal) -> None:
    terminal.ok("tenants", "create", "acme")
    text = terminal.ok(
        "keys", "create", "--tenant", "acme", "--tag", "team=search", "--expires-at", "2199-01-01"
    ).strip()
    assert api_key.parse(text) == sql(terminal.url, "SELECT hash FROM api_key")[0][0]
    listed = terminal.ok("keys", "list", "--tenant", "acme") + terminal.ok(
        "keys", "list", "--tenant", "acme", "--json"
    )
    assert text not in listed
    assert text[:11] in listed


def test_a_revoked_key_stays_listed_as_revoked(terminal: Terminal) -> None:
    terminal.ok("tenants", "create", "acme")
    text = terminal.ok("keys", "create", "--tenant", "acme").strip()
    assert terminal.ok("keys", "revoke", text[:11], "--tenant", "acme").startswith(
        f"Key {text[:11]}… is revoked since 20"
    )
    assert "revoked" in terminal.ok("keys", "list", "--tenant", "acme")
    refused = terminal.fails("keys", "revoke", text, "--tenant", "acme")
    assert refused == "error: key: name it by its first 11 characters (sk-…) or its id, never by its text"


def test_a_credential_comes_from_a_file_or_standard_input_and_is_never_printed(terminal: Terminal) -> None:
    url = ("--url", "https://nim.internal", "--engine", "nim", "--credential-file", "-")
    printed = terminal.ok("backends", "add", "nim", *url, text="hunter2\n")
    assert sql(terminal.url, "SELECT credential FROM backend")[0][0] == "hunter2"
    assert "hunter2" not in printed + terminal.ok("backends", "list") + terminal.ok(
        "backends", "list", "--json"
    )


def test_what_becomes_of_a_hang_up_is_set_shown_and_changed(terminal: Terminal) -> None:
    server = ("--url", "http://gpu-1.internal:8000", "--engine", "tensorrt-llm", "--credential-file", "-")
    terminal.ok("backends", "add", "gpu-1", *server, "--on-hang-up", "drain", text="hunter2")
    assert terminal.ok("backends", "change", "gpu-1", "--on-hang-up", "stream_and_assemble") == (
        "Backend gpu-1 is tensorrt-llm at http://gpu-1.internal:8000; on hang-up: stream and assemble.\n"
    )
    [shown] = terminal.json("backends", "list")
    assert (shown["on_hang_up"], shown["has_credential"]) == ("stream_and_assemble", True)
    assert terminal.json("backends", "change", "gpu-1", "--engine", "nim-1")["engine"] == "nim-1"
    terminal.ok("backends", "archive", "gpu-1")
    printed = terminal.ok("backends", "list")
    assert max(map(len, printed.splitlines())) <= 100
    assert "stream and" in printed
    assert terminal.json("backends", "put", "gpu-1", *server[:4])["on_hang_up"] == "abort"


def test_how_a_model_s_text_is_read_is_set_shown_and_changed(terminal: Terminal) -> None:
    terminal.ok("backends", "add", "local", "--url", "http://127.0.0.1:11434", "--engine", "ollama")
    path = "/srv/models/qwen3-235b-a22b-thinking/tokenizer.json"
    tags = ("--reasoning-tags", "<think>", "</think>")
    terminal.ok("models", "add", "qwen3", "--backend", "local=qwen3:8b", *tags, "--tokenizer", path)
    printed = terminal.ok("models", "list")
    assert max(map(len, printed.splitlines())) <= 100
    assert "<think> </think>" in printed
    assert terminal.ok("models", "change", "qwen3", "--no-reasoning-tags", "--tokenizer", "qwen3") == (
        "Model qwen3: no reasoning tags, tokenizer qwen3.\n"
    )
    [shown] = terminal.json("models", "list")
    assert (shown["reasoning_tags"], shown["tokenizer"]) == (None, "qwen3")
    shown = terminal.json("models", "change", "qwen3", *tags, "--no-tokenizer")
    assert (shown["reasoning_tags"], shown["tokenizer"]) == ({"start": "<think>", "end": "</think>"}, None)
    assert terminal.fails("models", "change", "qwen3", "--reasoning-tags", "a", "a") == (
        "error: reasoning_tags: start and end must differ, got 'a' twice"
    )
    assert terminal.run("models", "change", "qwen3", *tags, "--no-reasoning-tags").exit_code == 2


def test_a_plan_from_standard_input_is_applied_once(terminal: Terminal) -> None:
    text = PLAN.read_text("utf-8")
    assert terminal.ok("plans", "apply", "-", text=text).startswith("Plan demo (USD) is new.")
    assert terminal.ok("plans", "apply", "-", text=text).startswith(
        "Plan demo (USD) is as the file says already."
    )
    assert terminal.fails("plans", "apply", "-", text=text.replace('"0.50"', '"-0.50"')) == (
        "error: versions[0].rates[0].input: a price cannot be negative, got -0.50"
    )
    assert "golden uncached_input 0.5 per 1,000 → 0.6 per 1,000" in terminal.fails(
        "plans", "apply", "-", text=text.replace('"0.50"', '"0.60"')
    )


def test_a_file_that_is_no_text_or_too_large_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"label: K\xf6ln")
    assert (
        terminal.fails("plans", "apply", str(tmp_path / "latin.yaml"))
        == "error: the file is not UTF-8 text: byte 9 is 0xf6"
    )
    (tmp_path / "large.yaml").write_bytes(b"#" * 300_000)
    assert (
        terminal.fails("plans", "apply", str(tmp_path / "large.yaml"))
        == "error: the file is larger than 256 KiB"
    )


def test_plans_follow_one_another(terminal: Terminal) -> None:
    terminal.ok("tenants", "create", "acme")
    terminal.ok("plans", "apply", str(PLAN))
    terminal.ok("plans", "apply", str(PLAN.with_name("open-models.yaml")))
    create = ("subscriptions", "create", "--tenant", "acme", "--plan")
    assert terminal.ok(*create, "demo", "--starts-at", "2026-11-01") == (
        "Tenant acme is priced by demo (USD) from 2026-11-01 00:00 UTC with no end.\n"
    )
    assert "the tenant has plan demo from 2026-11-01T00:00:00Z with no end already" in terminal.fails(
        *create, "open-models"
    )
    terminal.ok("subscriptions", "end", "--tenant", "acme", "--at", "2026-12-01")
    terminal.ok(*create, "open-models", "--starts-at", "2026-12-01")
    found = terminal.json("subscriptions", "list", "--tenant", "acme")
    assert [(each["plan"], each["starts_at"], each["ends_at"]) for each in found] == [
        ("demo", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("open-models", "2026-12-01T00:00:00Z", None),
    ]


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (("tenants", "list"), "billing tenants create"),
        (("backends", "list"), "billing backends add"),
        (("models", "list"), "billing models add"),
        (("plans", "list"), "billing plans apply"),
        (("projects", "list", "--tenant", "acme"), "billing projects create"),
        (("keys", "list", "--tenant", "acme"), "billing keys create"),
        (("subscriptions", "list", "--tenant", "acme"), "billing subscriptions create"),
        (("invoices", "preview", "--tenant", "acme"), "billing subscriptions create"),
        (("usage", "--tenant", "acme"), "while the recorder runs"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_an_empty_state_says_what_to_do_next(
    terminal: Terminal, command: tuple[str, ...], advice: str
) -> None:
    if "--tenant" in command:
        terminal.ok("tenants", "create", "acme")
    assert advice in terminal.ok(*command)


def test_a_long_list_is_cut_and_says_so(terminal: Terminal) -> None:
    for slug in ("aa", "bb", "cc"):
        terminal.ok("tenants", "create", slug)
    shown = terminal.run("tenants", "list", "--limit", "2")
    assert "bb" in shown.stdout
    assert "cc" not in shown.stdout
    assert shown.stderr == "More than 2: ask for more with --limit.\n"


def test_what_is_archived_says_so_and_every_write_is_in_the_audit_log(terminal: Terminal) -> None:
    terminal.ok("tenants", "create", "acme")
    terminal.ok("projects", "create", "web", "--tenant", "acme")
    server = ("--url", "http://127.0.0.1:8000", "--engine", "vllm", "--credential-file", "-")
    terminal.ok("backends", "add", "gpu", *server, text="hunter2")
    terminal.ok("models", "add", "tiny", "--backend", "gpu")
    for group, name, more in (
        ("projects", "web", ("--tenant", "acme")),
        ("models", "tiny", ()),
        ("backends", "gpu", ()),
    ):
        assert "is archived since 20" in terminal.ok(group, "archive", name, *more)
        assert terminal.json(group, "list", *more)[0]["archived_at"] is not None
    assert (
        terminal.ok("backends", "put", "gpu", *server[:4])
        == "Backend gpu is vllm at http://127.0.0.1:8000.\n"
    )
    [gpu] = terminal.json("backends", "list")
    assert (gpu["archived_at"], gpu["has_credential"]) == (None, False)

    printed = terminal.ok("audit", "--subject", "backend", "--json")
    assert "hunter2" not in printed
    log = json.loads(printed)
    assert [entry["action"] for entry in log] == ["update", "update", "insert"]
    assert {entry["actor"] for entry in log} == {f"cli:{user_name()}"}
    assert log[0]["after"]["credential"] == "(changed)"
    assert "archived_at" in terminal.ok("audit", "--tenant", "acme", "--subject", "project")
    assert terminal.fails("audit", "--tenant", "nobody") == "error: there is no tenant 'nobody'"


def test_requests_are_listed_when_there_are_some(terminal: Terminal) -> None:
    assert terminal.ok("requests").startswith("No usage records yet.")
    assert terminal.json("requests") == []
