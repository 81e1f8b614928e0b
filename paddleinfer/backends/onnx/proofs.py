"""Remembers that a converted model gave Paddle's answers, so that it is not compared again at each load."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from paddleinfer.backends.onnx.conversion import Load
from paddleinfer.backends.processors import cpu_flags
from paddleinfer.sentences import shown
from paddleinfer.whole_files import write_whole

__all__ = ["Reference"]

# To be raised when models are compared in another way.
_WAY = 1


@dataclass(frozen=True)
class Reference:
    """What a load needs to compare a converted model with Paddle's own answers."""

    runtime: str
    """The runtime and its version."""
    directory: Path
    """The model's directory in the folder of converted models, where the proofs are kept."""
    load: Load
    """The load that this belongs to; its end ends the comparison."""

    def recall(self, cases: object) -> str | None:
        """Returns what was found when these cases were compared on such a processor, or None."""
        try:
            proof = json.loads(self._file(cases).read_bytes())
        except (OSError, ValueError):
            return None
        whole = isinstance(proof, dict) and isinstance(proof.get("worst"), str)
        return str(proof["worst"]) if whole and proof.get("cases") == self._facts(cases) else None

    def remember(self, cases: object, worst: str) -> None:
        """Keeps the sentence on the worst that was found, where the folder can be written to."""
        with contextlib.suppress(OSError):
            text = json.dumps({"worst": worst, "cases": self._facts(cases)})
            write_whole(self._file(cases), text.encode())

    def _facts(self, cases: object) -> str:
        facts = [_WAY, self.runtime, sorted(cpu_flags()), cases]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def _file(self, cases: object) -> Path:
        return self.directory / f"proof-{self._facts(cases)[:32]}.json"

    def __repr__(self) -> str:
        return f"Reference({shown(str(self.directory))})"
