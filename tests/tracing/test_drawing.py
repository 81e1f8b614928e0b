"""A picture of a timeline shows slices that are smaller than a pixel."""

from __future__ import annotations

from pathlib import Path

import pytest
from page_stand_ins import cycles

from paddleinfer.stages import STAGE_COLOURS
from paddleinfer.tracing.drawing import columns, draw
from paddleinfer.tracing.events import Span, spans


def span(name: str, start_us: float, duration_us: float) -> Span:
    return Span(name, 1, 1, start_us, duration_us, {})


def test_a_column_shows_what_most_of_its_time_is_in() -> None:
    drawn = [one for one in spans(cycles(2000)) if one.name != "batch"]
    seen = columns(drawn, 0, 2000 * 1000, 900)
    assert {column[0] if column else None for column in seen} == {"run"}
    assert all(column and column[1] == pytest.approx(1) for column in seen)


def test_a_lone_slice_is_seen_however_short_and_a_column_of_nothing_is_empty() -> None:
    seen = columns([span("run", 25, 0.1), span("hold", 40, 20), span("send", 75, 0)], 0, 100, 10)
    shown = [column and (column[0], round(column[1], 3)) for column in seen]
    expected = {2: ("run", 0.01), 4: ("hold", 1.0), 5: ("hold", 1.0), 7: ("send", 0.0)}
    assert shown == [expected.get(place) for place in range(10)]
    assert columns([span("run", 100, 0)], 0, 100, 4)[3] is not None


def test_a_picture_of_many_cycles_is_not_in_the_colour_of_their_shortest_stages(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    image = pytest.importorskip("matplotlib.image")
    draw(cycles(2000), tmp_path / "out.png")
    pixels = (image.imread(tmp_path / "out.png")[..., :3] * 255).round().astype(int)

    def share(name: str) -> float:
        colour = [int(STAGE_COLOURS[name][at : at + 2], 16) for at in (1, 3, 5)]
        return float((pixels == colour).all(axis=-1).mean())

    # What is left of the others is in the legend.
    assert share("run") > 50 * max(share("gather"), share("scatter")) > 0
