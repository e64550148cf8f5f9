"""Real llama.cpp for end-to-end tests: the deterministic models, made to know tools and to fill in the middle of a text."""

import subprocess
import sys
from pathlib import Path

from billing.infra.golden.model import CHAT_TEMPLATE, ModelSpec, model_path

MESSAGE_END = "{{ message.content or '' }}"
# Says how calls are written, so that the server offers tools: " a30", the golden answer's last token, begins a call.
CALLS = (
    "{%- for call in message.tool_calls or [] %}"
    ' a30{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}} r20'
    "{%- endfor -%}"
)
TOOLS_FIRST = "{%- if tools -%}<|im_start|>system\n{%- for tool in tools %}{{ tool | tojson }}{%- endfor %}<|im_end|>\n{% endif -%}\n"
FILL_IN_TOKENS = {"fim_pre": 0, "fim_suf": 1, "fim_mid": 2}
"""The model's three control tokens: after each of them it begins its one answer."""


def equipped_model_path(folder: Path, spec: ModelSpec) -> Path:
    """The model file of a spec with a template that knows tools, and with tokens for ``/infill``; built when it is missing."""
    plain, model = model_path(folder, spec), folder / f"{spec.name}-equipped.gguf"
    if not model.exists():
        template = TOOLS_FIRST + CHAT_TEMPLATE.read_text(encoding="utf-8").replace(
            MESSAGE_END, MESSAGE_END + CALLS
        )
        command = [
            sys.executable,
            "-m",
            "gguf.scripts.gguf_new_metadata",
            "--force",
            "--chat-template",
            template,
        ]
        for name, token in FILL_IN_TOKENS.items():
            command += ["--special-token-by-id", name, str(token)]
        subprocess.run([*command, str(plain), str(model)], check=True, capture_output=True)
    return model
