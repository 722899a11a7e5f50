"""A run's folder: what is read back, what is made again, and what happens when the disk refuses."""

import json
import shutil
from pathlib import Path

import pytest

from prompt2model import store
from prompt2model.errors import RunError
from prompt2model.records import Made, Record, Spent, TaskSpec

SPEC = TaskSpec(instruction="Sort the mails.", labels=("bug", "other"), kind="classification")


class Folder(Record):
    """A record that names a folder, as a student does."""

    folder: Path


class Maker:
    """Makes a record and counts how often."""

    def __init__(self, made: Record) -> None:
        self.made, self.times = made, 0

    def __call__(self) -> Record:
        self.times += 1
        return self.made


def test_what_has_not_changed_is_read_back(tmp_path: Path):
    make = Maker(SPEC)
    for _ in range(3):
        assert store.once(tmp_path, "parse", TaskSpec, make, depends_on=["text", SPEC]) == SPEC
    assert make.times == 1


@pytest.mark.parametrize("changed", ["another text", ["text"], {"text": 1}, SPEC])
def test_what_has_changed_is_made_again(tmp_path: Path, changed):
    make = Maker(SPEC)
    store.once(tmp_path, "parse", TaskSpec, make, depends_on="text")
    store.once(tmp_path, "parse", TaskSpec, make, depends_on=changed)
    assert make.times == 2
    assert not store.is_made(tmp_path, "parse", TaskSpec, depends_on="text")
    assert store.is_made(tmp_path, "parse", TaskSpec, depends_on=changed)


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"key": "', b"\xff\xfe", b"[]", b"null", b"{}", b'{"key": 1, "record": {}}'],
    ids=["empty", "half", "binary", "list", "null", "nothing", "foreign"],
)
def test_a_damaged_file_is_made_again(tmp_path: Path, damage):
    make = Maker(SPEC)
    (tmp_path / "parse.json").write_bytes(damage)
    assert store.once(tmp_path, "parse", TaskSpec, make, depends_on="text") == SPEC
    assert make.times == 1
    assert store.read(tmp_path, "parse", TaskSpec) == SPEC


def test_a_record_of_another_version_is_made_again(tmp_path: Path):
    store.once(tmp_path, "parse", TaskSpec, Maker(SPEC), depends_on="text")
    path = tmp_path / "parse.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps({**kept, "record": {**kept["record"], "a_new_field": 1}}))
    assert not store.is_made(tmp_path, "parse", TaskSpec, depends_on="text")


def test_a_record_whose_folder_is_gone_is_made_again(tmp_path: Path):
    folder = tmp_path / "student"
    folder.mkdir()
    make = Maker(Folder(folder=folder))
    store.once(tmp_path, "train", Folder, make, depends_on=1)
    shutil.rmtree(folder)
    store.once(tmp_path, "train", Folder, make, depends_on=1)
    assert make.times == 2


def test_a_draft_that_a_killed_process_left_does_no_harm(tmp_path: Path):
    (tmp_path / "parse.json.part").write_text('{"key": "ha')
    make = Maker(SPEC)
    assert store.once(tmp_path, "parse", TaskSpec, make, depends_on="text") == SPEC
    assert [path.name for path in tmp_path.iterdir()] == ["parse.json"]


def test_a_crash_while_making_leaves_the_former_record(tmp_path: Path):
    def crash() -> TaskSpec:
        raise KeyboardInterrupt

    store.once(tmp_path, "parse", TaskSpec, Maker(SPEC), depends_on="text")
    with pytest.raises(KeyboardInterrupt):
        store.once(tmp_path, "parse", TaskSpec, crash, depends_on="another")
    assert store.is_made(tmp_path, "parse", TaskSpec, depends_on="text")


def test_the_file_can_be_read_by_a_person(tmp_path: Path):
    store.once(tmp_path, "parse", TaskSpec, Maker(SPEC.model_copy(update={"instruction": "Prüfe, ob …"})), depends_on=1)
    text = (tmp_path / "parse.json").read_text(encoding="utf-8")
    assert "Prüfe, ob …" in text
    assert text.count("\n") > 5


def test_reading_a_stage_that_was_not_finished_says_how_to_finish_it(tmp_path: Path):
    with pytest.raises(RunError, match=r"has no generate\.json") as caught:
        store.read(tmp_path, "generate", Made)
    assert str(tmp_path) in caught.value.hint


def test_reading_a_damaged_stage_is_an_error_with_a_cure(tmp_path: Path):
    (tmp_path / "generate.json").write_text('{"record": {"examples": 3}}')
    with pytest.raises(RunError, match="cannot be read") as caught:
        store.read(tmp_path, "generate", Made)
    assert "delete generate.json" in caught.value.hint


def test_a_full_disk_is_an_error_with_a_cure(tmp_path: Path):
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    (tmp_path / "parse.json.part").symlink_to(full)
    with pytest.raises(RunError, match="No space left on device") as caught:
        store.once(tmp_path, "parse", TaskSpec, Maker(SPEC), depends_on="text")
    assert caught.value.hint
    assert not (tmp_path / "parse.json").exists()


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_folder_that_cannot_be_written_is_an_error_with_a_cure(tmp_path: Path, name):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(RunError, match="cannot be written") as caught:
        store.open_run(tmp_path / name)
    assert "--out" in caught.value.hint


def test_a_stage_file_that_is_a_folder_is_an_error(tmp_path: Path):
    (tmp_path / "parse.json").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        store.once(tmp_path, "parse", TaskSpec, Maker(SPEC), depends_on="text")


def test_a_run_opens_in_a_new_folder_and_in_its_own_again(tmp_path: Path):
    run = store.open_run(tmp_path / "runs" / "one")
    assert store.open_run(run) == run
    assert list(run.iterdir()) == []


def test_the_digest_depends_on_the_value_and_on_nothing_else():
    one = {"a": 1, "b": [Path("x"), SPEC, {"z", "y", "x"}]}
    other = {"b": [Path("x"), SPEC, {"x", "y", "z"}], "a": 1}
    assert store.digest(one) == store.digest(other)
    assert store.digest(Spent(requests=1)) != store.digest(Spent(requests=2))


def test_a_value_without_a_lasting_text_has_no_digest():
    with pytest.raises(TypeError, match="object cannot be kept as JSON"):
        store.digest(object())
