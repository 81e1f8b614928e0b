"""Predictors and their handles give each thread its own data over one engine."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_helpers import assert_close, eventually, run_threads
from exit_processes import START_SECONDS, finish, start
from zoo import Zoo

import paddleinfer
import paddleinfer.inference
from paddleinfer.backends.paddle.installed import InstalledPaddle, import_paddle
from paddleinfer.inference import Config, DataType, Predictor, PredictorPool, Tensor, create_predictor

X = np.random.default_rng(5).standard_normal((3, 16)).astype("float32")


def config_of(directory: Path, **options: Any) -> Config:
    config = Config(str(directory))
    config.set_engine_options(**options)
    return config


@pytest.fixture
def mlp(zoo: Zoo) -> Any:
    with create_predictor(config_of(zoo.directory("mlp", zoo.formats[0]))) as predictor:
        yield predictor


def predicted(inference: Any, directory: Path, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What code written for paddle.inference does, on either."""
    program = next(path for path in directory.iterdir() if path.suffix in (".json", ".pdmodel"))
    config = inference.Config(str(program), str(program.with_suffix(".pdiparams")))
    config.disable_glog_info()
    config.disable_gpu()
    config.set_cpu_math_library_num_threads(1)
    config.switch_use_feed_fetch_ops(False)
    config.switch_specify_input_names(True)
    predictor = inference.create_predictor(config)
    for name in predictor.get_input_names():
        handle = predictor.get_input_handle(name)
        handle.reshape(list(feeds[name].shape))
        handle.copy_from_cpu(feeds[name])
    predictor.run()
    return {name: predictor.get_output_handle(name).copy_to_cpu() for name in predictor.get_output_names()}


@pytest.mark.parametrize(
    ("name", "feeds"),
    [
        ("mlp", {"x": X}),
        ("embedding", {"ids": np.arange(12).reshape(2, 6)}),
        ("conv", {"image": np.random.default_rng(0).standard_normal((2, 3, 9, 7)).astype("float32")}),
    ],
)
def test_code_for_paddles_predictor_gives_the_same(zoo: Zoo, name: str, feeds: dict[str, np.ndarray]) -> None:
    for format in zoo.formats:
        directory = zoo.directory(name, format)
        expected = predicted(InstalledPaddle.find().inference, directory, feeds)
        assert_close(predicted(paddleinfer.inference, directory, feeds), expected)


def test_threads_that_share_a_predictor_and_its_handles_never_mix(zoo: Zoo) -> None:
    with create_predictor(config_of(zoo.directory("scalar", zoo.formats[0]))) as predictor:
        handle = predictor.get_input_handle("x")
        doubled = predictor.get_output_handle(predictor.get_output_names()[0])

        def call(number: int) -> None:
            for turn in range(20):
                x = np.full((1 + turn % 3, 3), number * 100 + turn, "float32")
                handle.copy_from_cpu(x)
                predictor.run()
                assert (doubled.copy_to_cpu() == x * 2).all()
                assert handle.shape() == doubled.shape() == list(x.shape)

        run_threads(64, call)


def test_an_input_of_another_thread_is_none_of_this_one(mlp: Predictor) -> None:
    handle = mlp.get_input_handle("x")
    handle.copy_from_cpu(X)
    output = mlp.get_output_handle(mlp.get_output_names()[0])
    mlp.run()
    assert output.copy_to_cpu().shape == (3, 4)
    sentences = []

    def other() -> None:
        for use in (mlp.run, output.copy_to_cpu, handle.copy_to_cpu):
            with pytest.raises(paddleinfer.InvalidInput) as caught:
                use()
            sentences.append(str(caught.value))

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert sentences == [
        "input 'x' has no data: call copy_from_cpu on its handle first, on the thread that calls run(), "
        "because each thread has its own inputs and outputs",
        f"output {mlp.get_output_names()[0]!r} has no data: run() has not given a result on this thread, and "
        "each thread has its own inputs and outputs",
        "input 'x' has no data on this thread; call copy_from_cpu first",
    ]


def test_inputs_stay_until_others_come_and_are_copies(mlp: Predictor) -> None:
    handle = mlp.get_input_handle("x")
    given = X.copy()
    handle.copy_from_cpu(given)
    given[:] = 7
    first = answer(mlp)
    assert_close({"y": answer(mlp)}, {"y": first})  # not exactly: a run of oneDNN may differ in the last bit
    assert (handle.copy_to_cpu() == X).all()
    handle.copy_from_cpu(given)
    assert not np.allclose(answer(mlp), first)


def answer(predictor: Predictor) -> np.ndarray:
    predictor.run()
    return predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu()


def test_results_are_copies_of_their_own(mlp: Predictor) -> None:
    mlp.get_input_handle("x").copy_from_cpu(X)
    one = answer(mlp)
    output = mlp.get_output_handle(mlp.get_output_names()[0])
    two = output.copy_to_cpu()
    one[:] = 0
    assert two.any() and (output.copy_to_cpu() == two).all() and one.flags.writeable


def test_a_run_that_fails_leaves_no_result_of_before(zoo: Zoo) -> None:
    with create_predictor(config_of(zoo.directory("embedding", zoo.formats[0]))) as predictor:
        handle = predictor.get_input_handle("ids")
        handle.copy_from_cpu(np.zeros((1, 6), "int64"))
        assert answer(predictor).shape == (1, 6, 8)
        handle.copy_from_cpu(np.full((1, 6), 99))
        with pytest.raises(RuntimeError, match="99"):
            predictor.run()
        output = predictor.get_output_handle(predictor.get_output_names()[0])
        with pytest.raises(paddleinfer.InvalidInput, match="has not given a result"):
            output.copy_to_cpu()
        handle.copy_from_cpu(np.zeros((1, 6), "int64"))
        assert answer(predictor).shape == (1, 6, 8)


def test_a_handle_tells_shape_and_dtype_before_and_after_data(mlp: Predictor) -> None:
    handle = mlp.get_input_handle("x")
    output = mlp.get_output_handle(mlp.get_output_names()[0])
    assert isinstance(handle, Tensor) and handle.name() == "x"
    assert (handle.shape(), handle.type(), handle.lod()) == ([-1, 16], DataType.FLOAT32, [])
    handle.reshape((5, 16))
    assert handle.shape() == [5, 16]
    with pytest.raises(paddleinfer.InvalidInput, match="has no data"):
        mlp.run()
    handle.copy_from_cpu(X.astype("float64"))
    assert (handle.shape(), handle.type()) == ([3, 16], DataType.FLOAT64)
    handle.reshape([1, 3, 16])
    assert handle.copy_to_cpu().shape == (1, 3, 16)
    handle.reshape([3, 16])
    assert answer(mlp).dtype == np.float32
    assert (output.shape(), output.type()) == ([3, 4], DataType.FLOAT32)
    handle.reshape([4, 16])
    with pytest.raises(paddleinfer.InvalidInput, match="has no data"):
        mlp.run()


def test_what_a_handle_cannot_take_is_refused(mlp: Predictor) -> None:
    handle = mlp.get_input_handle("x")
    output = mlp.get_output_handle(mlp.get_output_names()[0])
    with pytest.raises(TypeError, match="copy_from_cpu takes a NumPy array, not list"):
        handle.copy_from_cpu([[1.0]])
    with pytest.raises(paddleinfer.InvalidInput, match="tensors of texts are not offered"):
        handle.copy_from_cpu(["a text"])
    with pytest.raises(paddleinfer.InvalidInput, match="takes float32, not object"):
        handle.copy_from_cpu(np.array([None]))
    with pytest.raises(paddleinfer.InvalidInput, match="takes sizes from 0 up, not -1"):
        handle.reshape(-1)
    with pytest.raises(TypeError, match=r"share_external_data takes a paddle\.Tensor, not ndarray"):
        handle.share_external_data(X)
    with pytest.raises(paddleinfer.InvalidInput, match="an address tells neither"):
        handle.share_external_data_by_ptr_name("x", [1], DataType.FLOAT32, None)
    handle.set_lod([])
    with pytest.raises(paddleinfer.InvalidInput, match="give sequences padded to one length"):
        handle.set_lod([[0, 1]])
    for write in (output.reshape, output.copy_from_cpu, output.share_external_data):
        with pytest.raises(paddleinfer.InvalidInput, match="is an output of the model"):
            write(X)
    handle.copy_from_cpu(X[:, :3])
    with pytest.raises(paddleinfer.InvalidInput, match=r"has shape \(3, 3\), the model takes \(\?, 16\)"):
        mlp.run()


def test_a_tensor_of_paddles_is_read_when_the_model_runs(mlp: Predictor) -> None:
    paddle = import_paddle()
    handle = mlp.get_input_handle("x")
    handle.copy_from_cpu(X)
    expected = answer(mlp)
    owner = paddle.to_tensor(X)
    for tensor in (owner, owner.value().get_tensor()):
        handle.copy_from_cpu(X * 0)
        handle.share_external_data(tensor)
        assert_close({"y": answer(mlp)}, {"y": expected})
        assert (handle.copy_to_cpu() == X).all()
    shared = paddle.zeros([3, 16])
    handle.share_external_data(shared)
    shared[:] = paddle.to_tensor(X)
    assert_close({"y": answer(mlp)}, {"y": expected})


def test_run_takes_arrays_or_tensors_and_gives_the_like(mlp: Predictor) -> None:
    paddle = import_paddle()
    (array,) = mlp.run([X]) or ()
    output = mlp.get_output_handle(mlp.get_output_names()[0])
    assert (output.copy_to_cpu() == array).all()
    array[:] = 0
    assert output.copy_to_cpu().any()
    (tensor,) = mlp.run([paddle.to_tensor(X)]) or ()
    assert isinstance(tensor, paddle.Tensor)
    assert_close({"y": tensor.numpy()}, {"y": output.copy_to_cpu()})
    with pytest.raises(paddleinfer.InvalidInput, match="run takes a list of arrays or tensors, not ndarray"):
        mlp.run(X)  # type: ignore[arg-type]
    with pytest.raises(paddleinfer.InvalidInput, match="the list has 2 inputs, the model takes 1"):
        mlp.run([X, X])


def test_bfloat16_comes_out_as_paddle_gives_it(zoo: Zoo) -> None:
    directory = zoo.directory("same-bfloat16", zoo.formats[0])
    with create_predictor(config_of(directory)) as predictor:
        x = np.array([[1, 2, 3]], paddleinfer._ext.NUMPY_DTYPES["bfloat16"])
        handle = predictor.get_input_handle("x")
        handle.copy_from_cpu(x)
        y = answer(predictor)
        assert handle.type() is DataType.BFLOAT16
        assert y.dtype == np.uint16 and (y[..., 0] == x.view(np.uint16)).all()
        handle.copy_from_cpu(x.view(np.uint16))
        assert (answer(predictor) == y).all()


def test_predictors_of_equal_configs_share_an_engine_until_the_last_is_closed(zoo: Zoo) -> None:
    directory = zoo.directory("mlp", zoo.formats[0])
    one, two = (create_predictor(config_of(directory)) for _ in range(2))
    other = create_predictor(config_of(directory, max_batch_size=4))
    clone = one.clone()
    engine = one.engine
    assert two.engine is clone.engine is engine and other.engine is not engine
    for predictor in (one, two, other):
        predictor.close()
        predictor.close()
    assert not engine.closed and "closed" in repr(one) and "open" in repr(clone)
    one.get_input_handle("x").copy_from_cpu(X)
    for use in (one.run, one.clone):
        with pytest.raises(RuntimeError, match="is closed; ask for another one"):
            use()
    clone.get_input_handle("x").copy_from_cpu(X)
    assert answer(clone).shape == (3, 4)
    del one, two, predictor
    core = engine._generation.core
    del engine, clone
    gc.collect()
    assert eventually(lambda: core.closed)


def test_a_clone_has_data_of_its_own(mlp: Predictor) -> None:
    mlp.get_input_handle("x").copy_from_cpu(X)
    with mlp.clone() as clone:
        assert clone.get_output_names() == mlp.get_output_names()
        with pytest.raises(paddleinfer.InvalidInput, match="has no data"):
            clone.run()
        with pytest.raises(paddleinfer.ConfigError, match=r"clone\(stream\) is not offered"):
            mlp.clone(object())
    assert answer(mlp).shape == (3, 4)


def test_a_pool_has_as_many_predictors_as_asked_for(zoo: Zoo) -> None:
    config = config_of(zoo.directory("mlp", zoo.formats[0]))
    pool = PredictorPool(config, 3)
    members = [pool.retrieve(index) for index in range(3)]
    assert len({id(member) for member in members}) == 3
    assert len({id(member.engine) for member in members}) == 1
    assert pool.retrive(1) is members[1]
    for index in (-1, 3, "1"):
        with pytest.raises(paddleinfer.InvalidInput, match="the pool has predictors 0 to 2"):
            pool.retrieve(index)  # type: ignore[arg-type]
    engine = members[0].engine
    pool.close()
    assert engine.closed
    with pytest.raises(paddleinfer.ConfigError, match="must be an integer from 1 up, not 0"):
        PredictorPool(config, 0)


def test_calls_that_the_engine_has_nothing_for(mlp: Predictor) -> None:
    assert mlp.try_shrink_memory() == 0
    mlp.clear_intermediate_tensor()
    for register in (mlp.register_input_hook, mlp.register_output_hook):
        with pytest.raises(paddleinfer.ConfigError, match="does not see single operators"):
            register(print)
    with pytest.raises(paddleinfer.InvalidInput, match="there is no input 'y'; the model has x"):
        mlp.get_input_handle("y")
    with pytest.raises(paddleinfer.InvalidInput, match="there is no output 'x'; the model has "):
        mlp.get_output_handle("x")


def test_notes_are_on_the_predictor_and_in_the_log(zoo: Zoo, caplog: pytest.LogCaptureFixture) -> None:
    config = config_of(zoo.directory("mlp", zoo.formats[0]))
    config.set_optimization_level(3)
    caplog.set_level("INFO", "paddleinfer")
    with create_predictor(config) as predictor, predictor.clone() as clone:
        assert predictor.notes == ("set_optimization_level has no effect: Paddle's usual passes run",)
        assert clone.notes == predictor.notes
    assert predictor.notes[0] in caplog.text


def test_a_forked_child_makes_an_engine_of_its_own(zoo: Zoo) -> None:
    process = start(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: threads and fork
        from paddleinfer.inference import Config, create_predictor
        def predictor_of():
            return create_predictor(Config(sys.argv[1]))
        before = predictor_of()
        child = os.fork()
        if child == 0:
            x = np.ones((1, 16), "float32")
            try:
                before.run([x])
            except paddleinfer.EngineClosed:
                own = predictor_of()
                os._exit(0 if own.engine is not before.engine and own.run([x])[0].shape == (1, 4) else 4)
            os._exit(3)
        print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        """,
        str(zoo.directory("mlp", zoo.formats[0])),
    )
    stdout, stderr = finish(process, START_SECONDS)
    assert process.returncode == 0 and stdout.strip() == "child 0", (stdout, stderr)
