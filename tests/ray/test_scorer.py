"""Blocks of rows through an engine: columns as inputs and outputs."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo import Zoo

from paddleinfer import ConfigError, Engine, InvalidInput
from paddleinfer.ray import Scorer
from paddleinfer.ray import scorer as scorer_module

COUNT = 100


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((COUNT, 16), dtype=np.float32)


@pytest.fixture
def alone(zoo: Zoo, x: np.ndarray) -> np.ndarray:
    with Engine(zoo.directory("mlp"), instances=1) as engine:
        (answer,) = engine.infer({"x": x}).values()
    return answer


@pytest.fixture
def name(zoo: Zoo) -> str:
    with Engine(zoo.directory("mlp"), instances=1) as engine:
        return engine.outputs[0].name


def same(scored: Any, alone: np.ndarray) -> bool:
    return scored.shape == alone.shape and bool(np.abs(scored - alone).max() <= 1e-5 * np.abs(alone).max())


def test_columns_of_the_inputs_names_are_fed_and_all_columns_kept(
    zoo: Zoo, x: np.ndarray, alone: np.ndarray, name: str
) -> None:
    numbers = np.arange(COUNT)
    scored = Scorer(zoo.directory("mlp"), instances=1)({"id": numbers, "x": x})
    assert list(scored) == ["id", "x", name]
    assert (scored["id"] == numbers).all() and same(scored[name], alone)


def test_columns_and_outputs_may_have_names_of_their_own(
    zoo: Zoo, x: np.ndarray, alone: np.ndarray, name: str
) -> None:
    scorer = Scorer(
        zoo.directory("mlp"), columns={"x": "features"}, outputs={name: "score"}, keep=["id"], instances=1
    )
    scored = scorer({"id": np.arange(COUNT), "features": x, "text": np.array(["t"] * COUNT)})
    assert list(scored) == ["id", "score"] and same(scored["score"], alone)


def test_columns_of_numbers_become_an_inputs_last_axis(
    zoo: Zoo, x: np.ndarray, alone: np.ndarray, name: str
) -> None:
    columns = [f"f{number}" for number in range(16)]
    scorer = Scorer(zoo.directory("mlp"), columns={"x": columns}, keep=[], outputs=[name], instances=1)
    assert same(scorer({column: x[:, number] for number, column in enumerate(columns)})[name], alone)


def test_lists_of_numbers_become_rows(zoo: Zoo, x: np.ndarray, alone: np.ndarray, name: str) -> None:
    lists = np.empty(COUNT, object)
    lists[:] = [row.tolist() for row in x]
    assert same(Scorer(zoo.directory("mlp"), instances=1)({"x": lists})[name], alone)


def test_no_rows_give_no_rows(zoo: Zoo, name: str) -> None:
    scored = Scorer(zoo.directory("mlp"), instances=1)({"x": np.empty((0, 16), np.float32)})
    assert scored[name].shape == (0, 4)


def test_calls_of_several_threads_share_an_engine_with_a_small_queue(
    zoo: Zoo, x: np.ndarray, alone: np.ndarray, name: str
) -> None:
    scorer = Scorer(zoo.directory("mlp"), max_batch_size=4, max_queue_rows=8, instances=1)
    with ThreadPoolExecutor(4) as threads:
        for scored in threads.map(scorer, [{"x": x}] * 8):
            assert same(scored[name], alone)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"columns": {"y": "f"}}, "columns names 'y'; the model has the inputs x"),
        ({"columns": {}, "outputs": ["z"]}, "outputs names 'z'; the model has the outputs"),
        ({"instance": 1}, "there is no option 'instance'"),
    ],
)
def test_names_that_the_model_does_not_have_are_refused(zoo: Zoo, options: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        Scorer(zoo.directory("mlp"), **options)


def test_every_input_needs_a_column(zoo: Zoo) -> None:
    with pytest.raises(ConfigError, match="columns has no column for the input"):
        Scorer(zoo.directory("joined"), columns={"x": "first"}, instances=1)


def test_data_that_does_not_fit_is_refused_in_a_sentence(zoo: Zoo, x: np.ndarray, name: str) -> None:
    scorer = Scorer(zoo.directory("mlp"), outputs={name: "x"}, instances=1)
    with pytest.raises(InvalidInput, match="there is no column 'x'; the data has features"):
        scorer({"features": x})
    with pytest.raises(InvalidInput, match="would overwrite the column 'x': give it another name"):
        scorer({"x": x})
    ragged = np.empty(2, object)
    ragged[:] = [[1.0], [1.0, 2.0]]
    with pytest.raises(InvalidInput, match="the rows of column 'x' have different shapes"):
        scorer({"x": ragged})


@pytest.mark.ray
def test_arguments_reserve_what_the_engine_needs(zoo: Zoo) -> None:
    given = Scorer.arguments("somewhere", instances=2, max_batch_size=8, actors=(1, 3))
    assert (given["num_cpus"], given["batch_size"]) == (2.0, 32 * 2 * 8)
    pool = given["compute"]
    assert (pool.min_size, pool.max_size, pool.max_concurrent_calls_per_actor) == (1, 3, 3)
    assert pool.enable_true_multi_threading
    assert "num_gpus" not in given and given["fn_constructor_kwargs"]["config"].runtime.instances == 2


@pytest.mark.ray
def test_a_dataset_of_parquet_files_is_scored(
    local_ray: Any, zoo: Zoo, tmp_path: Path, x: np.ndarray, alone: np.ndarray, name: str
) -> None:
    rows = local_ray.data.from_items([{"id": number, "f": row.tolist()} for number, row in enumerate(x)])
    rows.write_parquet(str(tmp_path / "rows"))
    arguments = Scorer.arguments(
        zoo.directory("mlp"), columns={"x": "f"}, outputs={name: "score"}, keep=["id"], batch_size=16
    )
    scored = local_ray.data.read_parquet(str(tmp_path / "rows")).map_batches(Scorer, **arguments)
    by_id = sorted(scored.take_all(), key=lambda row: row["id"])
    assert [row["id"] for row in by_id] == list(range(COUNT))
    assert same(np.stack([row["score"] for row in by_id]), alone)


def test_frames_go_through_one_engine_of_the_process(
    zoo: Zoo, x: np.ndarray, alone: np.ndarray, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pandas = pytest.importorskip("pandas")
    monkeypatch.setattr(scorer_module, "_scorers", {})
    frame = pandas.DataFrame({"id": range(COUNT), "features": list(x)})
    arguments = {"columns": {"x": "features"}, "outputs": {name: "score"}, "keep": ["id"]}
    for _ in range(2):
        score = Scorer.in_pandas(zoo.directory("mlp"), **arguments)
        first, second = pickle.loads(pickle.dumps(list(score([frame[:30], frame[30:]]))))
        assert list(first) == ["id", "score"] and list(second["id"]) == list(range(30, COUNT))
        assert same(np.concatenate([np.stack(part["score"]) for part in (first, second)]), alone)
    (scorer,) = scorer_module._scorers.values()
    assert scorer._engine.effective_config()["instances"]["value"] == 1


def test_cells_are_numbers_lists_and_lists_of_lists() -> None:
    as_cells = scorer_module._as_cells
    assert as_cells(np.arange(3)).tolist() == [0, 1, 2]
    assert [cell.tolist() for cell in as_cells(np.ones((2, 1)))] == [[1.0], [1.0]]
    assert as_cells(np.ones((1, 2, 1))) == [[[1.0], [1.0]]]
