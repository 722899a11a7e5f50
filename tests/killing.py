"""The end of a process in the middle of its training, without ending the test's."""

from prompt2model import checkpoints


class Killed(BaseException):
    """Stands for the end of the process."""


def kill_after(monkeypatch, saves: int) -> None:
    """The process ends right after so many checkpoints of the unfinished training."""
    whole_save, left = checkpoints.save, [saves]

    def save_and_die(folder, tensors, numbers):
        whole_save(folder, tensors, numbers)
        left[0] -= folder.name == "unfinished"
        if not left[0]:
            raise Killed

    monkeypatch.setattr(checkpoints, "save", save_and_die)
