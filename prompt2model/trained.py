"""A trained student, ready to be called: from a run's folder or from an exported one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, overload

from pydantic import ValidationError

from prompt2model import store
from prompt2model.answers import Answer, as_answered, ask, most_tokens
from prompt2model.conversation import Message
from prompt2model.errors import RunError
from prompt2model.records import Student, TaskSpec

if TYPE_CHECKING:
    from prompt2model.student import LocalModel


class Trained:
    """`student = Trained(folder)`; `student("text")` gives the answer, `student([...])` a list of them."""

    def __init__(self, folder: Path | str) -> None:
        """Raises RunError when `folder` is neither a finished run nor an exported model."""
        self.folder, self.task = _find(Path(folder))
        self._model: LocalModel | None = None

    @overload
    def __call__(self, inputs: str) -> str: ...
    @overload
    def __call__(self, inputs: list[str] | tuple[str, ...]) -> list[str]: ...
    def __call__(self, inputs: str | list[str] | tuple[str, ...]) -> str | list[str]:
        if isinstance(inputs, str):
            return self.answers([inputs])[0].text
        return [answer.text for answer in self.answers(inputs)]

    def answers(self, inputs: Sequence[str]) -> list[Answer]:
        """Each input's answer, for a classification with its probability."""
        asked = [(Message(role="user", content=text),) for text in inputs]
        model = self._loaded()
        most = most_tokens(self.task, model.model.generation_config.max_new_tokens or 0)
        return ask(self.task, asked, model, max_tokens=most, what="answering")

    def _loaded(self) -> "LocalModel":
        """The model, loaded at the first question: torch takes seconds to import."""
        if self._model is None:
            from prompt2model.student import open_model

            self._model = open_model(str(self.folder))
        return self._model


def _find(folder: Path) -> tuple[Path, TaskSpec]:
    if (folder / "task.json").is_file():
        return folder, _task(folder / "task.json")
    if (folder / "train.json").is_file():
        student = store.read(folder, "train", Student)
        moved = folder / student.folder.name  # a run's folder may have been moved since
        task = as_answered(store.read(folder, "parse", TaskSpec), student.answer_after)
        return moved if moved.is_dir() else student.folder, task
    raise RunError(
        f"{folder} holds no trained student.",
        hint="Name the folder of a finished run (its --out), or the model folder in it.",
    )


def _task(path: Path) -> TaskSpec:
    try:
        return TaskSpec.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path} cannot be read: it is damaged.", hint="Export the student again.") from error
