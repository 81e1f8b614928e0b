"""Whatever stands where an option should: it is taken, or refused in one sentence that names the option."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from paddleinfer import ConfigError, EngineConfig
from paddleinfer.config import option_names
from paddleinfer.options.flags import engine_flags, flags_of, from_environment
from paddleinfer.shim import cli
from paddleinfer.shim.options import ServerOptions
from paddleinfer.shim.settings_file import read_settings

SERVER = {flag.name: flag for flag in flags_of(ServerOptions)}
ENGINE = {flag.name: flag for flags in engine_flags().values() for flag in flags}
LONG = "1" * 5000
TEXTS = ("", " ", "-1", "0", "1e400", "nan", LONG, "a=b", "\0", "{}", ",", ";", "a.b/c")
VALUES = ("-1", "1e400", "nan", "''", "true", "[]", "[[1]]", "[{}]", "{}", "{a = 1}", "{a = []}")
NEVER = "1979-05-27"  # no option is a date


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some texts are names of files."""
    monkeypatch.chdir(tmp_path)


def sentence(name: str, options: Mapping[str, Any]) -> str | None:
    """Of what is refused; None for what is taken."""
    try:
        if name in SERVER:
            ServerOptions(**options).service_options()
        else:
            EngineConfig.from_options(options)
    except ConfigError as error:
        assert str(error) and "\n" not in str(error)
        return str(error)
    return None


@pytest.mark.parametrize("name", [*SERVER, *option_names()])
def test_a_text_that_stands_for_nothing_is_refused(name: str) -> None:
    flag = {**SERVER, **ENGINE}[name]
    for text in TEXTS:
        try:
            given = from_environment({f"PADDLEINFER_{name.upper()}": text}, [flag])
        except ConfigError as error:
            assert "\n" not in str(error)
        else:
            sentence(name, given)


@pytest.mark.parametrize("name", [*SERVER, *option_names()])
def test_a_value_of_a_file_that_cannot_be_is_refused(tmp_path: Path, name: str) -> None:
    file = tmp_path / "server.toml"
    table = "server" if name in SERVER else "engine"

    def refused(value: str) -> str | None:
        file.write_text(f"[{table}]\n{name} = {value}")
        try:
            settings = read_settings(file)
        except ConfigError as error:
            return str(error)
        return sentence(name, settings.server if name in SERVER else settings.engine)

    for value in VALUES:
        refused(value)
    why = refused(NEVER)
    assert why is not None and name in why


def test_the_parser_ends_with_2_and_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--port"], ["--inline=1"], ["--no-such"], ["a", "b"]):
        with pytest.raises(SystemExit) as end:
            cli.main(arguments)
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("paddleinfer-http: ")


def test_an_option_of_another_table_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "server.toml"
    file.write_text("[server]\nwarmup = true")
    assert cli.main(["--config", str(file), "model"]) == 2
    assert f"[server] of {file} has 'warmup'" in capsys.readouterr().err
    file.write_text("[engine]\nport = 1")
    assert "there is no option 'port'" in str(sentence("warmup", read_settings(file).engine))
