"""``tunesmith model``: a real server learns from real candidates, and its versions come and go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cost_model.base_model import BaseModel
from cost_model.versions import Bundle
from service.db.migrate import upgrade
from service.db.store import Store
from tests.integration.test_api_process import serving
from tests.lessons import matmul, teach
from tuner.cli import main

SHAPES = ((64, 64, 64), (128, 64, 32), (32, 128, 64), (96, 96, 96))


class CommandLine:
    """The commands against one server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, *arguments: str | Path, code: int = 0) -> Any:
        """Run ``tunesmith model ...``, and return its JSON, or its errors where it must fail."""
        done = CliRunner(env={"TUNESMITH_SERVER": self.url}).invoke(
            main, ["model", *map(str, arguments), "--json"], prog_name="tunesmith"
        )
        assert done.exit_code == code, done.output
        return json.loads(done.stdout) if code == 0 else done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    directory = tmp_path_factory.mktemp("learning")
    url = f"sqlite:///{directory / 'tunesmith.db'}"
    upgrade(url)
    store = Store.open(url)
    teach(store, *(matmul(*shape) for shape in SHAPES))
    store.close()
    with serving(directory, "--role", "all") as (_, server):
        yield CommandLine(server)


def test_versions_are_trained_judged_promoted_and_rolled_back(
    model: CommandLine, tmp_path: Path
) -> None:
    assert "no version is in use" in model("evaluate", code=1)

    first = model("train", "--promote")

    assert first["promoted"]
    assert first["metrics"]["shape.pairwise_accuracy"] > 0.6
    (listed,) = model("list")["items"]
    assert listed["version"] == first["version"]
    assert listed["promoted"]
    assert listed["parent"] is None
    assert listed["trained_on"]["rows"] == 32 * len(SHAPES)
    assert listed["trained_on"]["failed"] == 2 * len(SHAPES)
    assert listed["trained_on"]["groups"] == len(SHAPES)
    # The same dataset without the newest records makes the same judge, and no better one.
    second = model("train", "--seed", "1", "--until", "2100-01-01")
    assert not second["promoted"]
    assert model("list")["items"][0]["parent"] == first["version"]
    judged = model("evaluate", second["version"])
    assert judged["metrics"] == second["metrics"]

    assert model("promote", second["version"], "--force")["before"] == first["version"]
    assert [item["promoted"] for item in model("list")["items"]] == [True, False]
    assert model("rollback") == {"rolled_back": second["version"], "promoted": first["version"]}

    file = tmp_path / "base.zip"
    model("export", first["version"], file)
    bundle = Bundle.from_bytes(file.read_bytes())
    assert bundle.version.version == BaseModel.from_bytes(bundle.content).version
    assert model("import", file) == {"version": first["version"]}
    file.write_bytes(file.read_bytes()[:1000])
    assert "no exported model" in model("import", file, code=2)


def test_a_dataset_that_teaches_nothing_is_refused(model: CommandLine) -> None:
    said = model("train", "--operator", "softmax", code=1)

    assert "0 timed trials of 0" in said
    assert "tune more" in said


def test_unknown_versions_are_named(model: CommandLine) -> None:
    for command in ("evaluate", "promote", "export"):
        more = ["file"] if command == "export" else []
        assert "model list" in model(command, "0123456789abcdef", *more, code=1)
