"""The texts of the demos, written for them: one JSON object in each line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read(name: str) -> list[dict[str, Any]]:
    """The objects of ``NAME.jsonl``."""
    lines = Path(__file__).with_name(f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]
