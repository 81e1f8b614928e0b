"""States how much Paddle's graph passes (``ir_optim``) gained for the legacy models that were measured."""

from __future__ import annotations

__all__ = ["WORTH", "off_sentence"]

# Paddle 3.3.1, one thread, without and with passes: seconds for 8 pages, milliseconds per line and per image.
_MEASURED = {"PP-OCRv4 det": 6.5 / 1.3, "PP-OCRv4 rec": 331 / 133, "mobilenet_v2": 59 / 15}
WORTH = ", ".join(f"{factor:.1f} times on {model}" for model, factor in _MEASURED.items())


def off_sentence(model: object) -> str:
    """Returns the sentence about a legacy model that runs without them."""
    return (
        f"{model} is a legacy program and runs with ir_optim off, so without graph passes and oneDNN; "
        f"ir_optim=True made such models faster where that was measured: {WORTH}"
    )
