"""Whether Paddle's helper threads free tensors during runs, and the process's flag for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close, run_threads
from zoo import Zoo

import paddleinfer
from paddleinfer.backends.paddle.installed import InstalledPaddle

FLAG = "FLAGS_eager_delete_tensor_gb"
X = np.ones((2, 16), "float32")


def flag_value() -> Any:
    return InstalledPaddle.find().module.get_flags([FLAG])[FLAG]


def switches_of_threads(name: str) -> dict[str, int]:
    """How often each waited so far, by its id. Paddle's helpers have the name of who began them."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        try:
            text = (task / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            continue
        fields = dict(line.split(":\t", 1) for line in text.splitlines())
        if fields["Name"] == name:
            found[task.name] = int(fields["voluntary_ctxt_switches"])
    return found


@pytest.mark.parametrize("driver", ["native", "python"])
def test_paddles_helper_thread_works_only_where_tensors_are_to_be_freed(zoo: Zoo, driver: str) -> None:
    for format in zoo.formats:
        for freed in (False, True):
            options: dict[str, Any] = {"driver": driver, "onednn": False, "eager_deletion": freed}
            of_other_engines = switches_of_threads("paddleinfer-0")
            with paddleinfer.Engine(zoo.directory("mlp", format), instances=1, **options) as engine:
                process = flag_value()
                engine.submit([X]).result()
                assert flag_value() == process
                before = switches_of_threads("paddleinfer-0")
                for _ in range(200):
                    engine.submit([X]).result()
                after = switches_of_threads("paddleinfer-0")
            # Paddle runs legacy programs without a helper. The instance's own thread waits now and then, too.
            own = sorted(after.keys() - of_other_engines, key=int)
            worked = sum(after[thread] > before[thread] for thread in own[1:])
            assert worked == (freed and format == "json"), (format, freed)


@pytest.mark.paddle3  # exports .json programs
@pytest.mark.parametrize("driver", ["native", "python"])
def test_with_onednn_no_tensor_stays_in_a_program_to_be_taken_for_one_of_another_shape(
    zoo: Zoo, driver: str
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((1 + n % 3, 3, 4 + n % 5, 4 + n % 4)).astype("float32") for n in range(60)]
    path = zoo.directory("conv", "json")
    with paddleinfer.Engine(path, onednn=False, instances=1) as plain:
        wanted = [plain.infer([x]) for x in images]
    options: dict[str, Any] = {"driver": driver, "onednn": True, "eager_deletion": False, "instances": 1}
    with paddleinfer.Engine(path, **options) as engine:
        for x, results in zip(images, wanted, strict=True):
            assert_close(engine.infer([x]), results)
        told = engine.effective_config()["eager_deletion"]
    assert told["value"] is True and "in lots of 4 MiB; with oneDNN" in told["note"]


def test_the_process_wide_flag_is_put_back_after_loading(zoo: Zoo) -> None:
    before = flag_value()
    for freed in (False, True):
        path = zoo.directory("mlp", "legacy")
        with paddleinfer.Engine(path, instances=1, eager_deletion=freed) as engine:
            assert flag_value() == before
            assert engine.effective_config()["eager_deletion"]["value"] is freed


@pytest.mark.parametrize("model", ["mlp", "conv"])
@pytest.mark.parametrize("onednn", [False, True])
def test_unless_asked_tensors_go_in_lots(zoo: Zoo, model: str, onednn: bool) -> None:
    with paddleinfer.Engine(zoo.directory(model, zoo.formats[0]), onednn=onednn, instances=1) as engine:
        told = engine.effective_config()["eager_deletion"]
    assert told["value"] is True and told["source"] == "auto" and "in lots of 4 MiB" in told["note"]


def test_engines_made_at_once_leave_the_process_wide_flag_as_it_was(zoo: Zoo) -> None:
    directory = zoo.directory("mlp", "legacy")
    before = flag_value()

    def make_some(number: int) -> None:
        for _ in range(5):
            paddleinfer.Engine(directory, instances=1, eager_deletion=bool(number % 2)).close()

    run_threads(4, make_some)
    assert flag_value() == before
