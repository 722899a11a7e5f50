"""Fine-tunes the base model on the training rows and leaves the best checkpoint as a plain transformers folder."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedType, InitProcessGroupKwargs, broadcast_object_list, gather_object
from torch import Tensor

from prompt2model import checkpoints, store
from prompt2model.answers import as_answered, most_tokens
from prompt2model.batches import Codec, Lesson
from prompt2model.calibration import calibrate, may_lean
from prompt2model.checkpoints import Kept
from prompt2model.config import TrainConfig, contents
from prompt2model.course import Course, Prepared, check_same_tokenizer, white_box
from prompt2model.errors import ConfigError, DataError
from prompt2model.layers import save_every
from prompt2model.method_choice import choose_method
from prompt2model.methods import check_suits, open_method, without_white_box
from prompt2model.records import Checkpoint, Example, Splits, Student, TaskSpec
from prompt2model.student import LocalModel, adapt, dtype_of, fingerprint, load, load_codec, merge, save
from prompt2model.student_prompt import set_student_prompt
from prompt2model.supply import Supply
from prompt2model.teacher import Teacher, check_abilities
from prompt2model.teachers import open_teacher
from prompt2model.training import Loop, Plan
from prompt2model.validation import HeldOut
from prompt2model.weights import fetch

T = TypeVar("T")
PATIENCE = timedelta(days=7)
"""Of processes that wait for one that asks a teacher: a batch takes a day."""
SAVE_EVERY_SECONDS = 90.0
"""What a killed process loses at most."""


def train(
    task: TaskSpec,
    splits: Splits,
    base: str,
    config: TrainConfig = TrainConfig(),
    *,
    folder: Path | str,
    seed: int = 0,
    teacher: Teacher | None = None,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
    ends_with: int | None = None,
) -> Student:
    """The base model taught by the method on the training rows, the best checkpoint of the validation, in `folder`.

    Without validation rows it is the last one. Its answers end with the token `ends_with`, or that of a teacher whose
    distributions it learns, or the base's own. Taken up where a killed process left it, with the same result. Raises
    ConfigError for a method or option that does not exist or fits neither model nor teacher, DataError without rows,
    WeightsError when the base cannot be loaded, RunError when training diverges, or memory or disk do not suffice.
    """
    config = config.model_copy(update={"method": choose_method(config.method, splits.train, teacher, base)})
    folder, (method, options) = Path(folder), open_method(config.method, config.options)
    check_suits(method, options, task)
    task = as_answered(task, method.answer_after(options) if hasattr(method, "answer_after") else "")
    is_own = hasattr(method, "taught_by_base") and method.taught_by_base(options)
    teacher = None if is_own else _fitting(teacher, method.needs(options), config.method)
    if not splits.train:
        raise DataError("There are no rows to train on.", hint="Raise generate.count, or give rows with --data.")
    accelerator = _accelerator()
    check_fits(config, base, teacher)
    if "logits" in method.needs(options) and (local := white_box(teacher)):
        ends_with = local.codec.end
    how: dict[str, Any] = {"teacher": teacher, "save_every_seconds": save_every_seconds, "ends_with": ends_with}
    begin = partial(train, task, splits, base, seed=seed, **how)
    if hasattr(method, "fetch"):
        method.fetch(options)
    given = (task, splits.train, splits.validation, config, contents(config), options, seed)
    start = _warmed_up(method, options, config, begin, folder / "warm-up", (*given, base, _identity(teacher)))
    weights = start or _initial(base, config.init, folder / "init")
    if is_own:
        teacher = open_teacher(f"transformers:{start or base}", options={"precision": config.precision})
    key = store.digest((*given, fingerprint(weights), _identity(teacher)))
    kept = _kept(folder / "unfinished", key)
    precision = kept[1]["precision"] if kept else _same(str(dtype_of(config.precision)).removeprefix("torch."))
    model, codec = _opened(weights, precision, ends_with)
    course = Course(task, codec, options, config.max_length, white_box(teacher), teacher, seed)
    prepared = _prepared(method, splits.train, course)
    with _in_turn(method, options):
        lessons = _lessons(method, prepared, course, config.method)
        held_out = [row for lesson in method.rows(splits.validation, course) for row in lesson]
    model = _equipped(method, model, course, config.lora_rank)
    supply = _supply(method, lessons, model, course, config.batch_rows, accelerator)
    plan = _plan(method, supply, model, course, config, precision=precision, key=key)
    loop = Loop(accelerator, model, codec, partial(method.loss, course=course), plan, folder, kept)
    longest = max(len(row.completion) for lesson in lessons for row in lesson)
    validation = HeldOut(task, splits.validation, held_out, thought_tokens=longest if task.answer_after else 0)
    loop.run(supply, validation, save_every_seconds)
    name = base if is_own else teacher.name if teacher else ""
    also = {"answer_after": task.answer_after, "longest_tokens": longest, "dropped": prepared.dropped}
    calibration = _calibration(method, options, task, splits.train, config, seed)
    return _finish(loop, base, config.method, most_tokens(task, longest), calibration, teacher=name, **also)


def _calibration(
    method: Any, options: Any, task: TaskSpec, rows: Sequence[Example], config: TrainConfig, seed: int
) -> Callable[..., dict[str, float]] | None:
    """What takes the student's leaning away, if it may have one."""
    told = hasattr(method, "labels_by_teacher") and method.labels_by_teacher(options)
    leans = may_lean(task, rows, config.calibrate, told=told)
    return partial(calibrate, task=task, rows=rows, seed=seed) if leans else None


def _fitting(teacher: Teacher | None, needs: Sequence[str], method: str) -> Teacher | None:
    """The teacher if the method needs one. Raises ConfigError when it cannot do what the method needs."""
    if not needs:
        return None
    if teacher is None:
        raise ConfigError(f"The method {method} needs a teacher.", hint="Name one with --teacher.")
    check_abilities(teacher, needs, f"The method {method}")
    return teacher


def _identity(teacher: Teacher | None) -> str:
    return teacher.identity if teacher else ""


def _warmed_up(
    method: Any, options: Any, config: TrainConfig, begin: Any, folder: Path, depends_on: Any
) -> Path | None:
    """The folder of the student of the training that comes first; None where none does."""
    differs = method.warm_up(options) if hasattr(method, "warm_up") else {}
    if not differs:
        return None
    if not store.is_made(folder, "train", Student, depends_on=depends_on):
        student = begin(config.model_copy(update={**differs, "calibrate": "never"}), folder=folder / "student")
        if PartialState().is_main_process:
            store.once(folder, "train", Student, lambda: student, depends_on=depends_on)
        PartialState().wait_for_everyone()
    return folder / "student"


def _initial(base: str, init: str, folder: Path) -> Path:
    """The folder of the base, or of a model made of some of its layers."""
    if not init:
        return fetch(base)
    if PartialState().is_main_process:
        save_every(fetch(base), int(init.partition("=")[2]), folder)
    PartialState().wait_for_everyone()
    return folder


def _opened(weights: Path, precision: str, ends_with: int | None) -> tuple[Any, Codec]:
    """The model and its codec, which asks and ends as the student will."""
    model, codec = load(weights, precision=precision)
    if ends_with is not None:
        codec.end_with(ends_with)
    set_student_prompt(codec)
    return model, codec


def check_fits(config: TrainConfig, base: str, teacher: Teacher | None) -> None:
    """Raises ConfigError when the method cannot train the base, or compares tokens that base and teacher do not share.

    Of the base the tokenizer alone is read: it is said before anything is written or trained.
    """
    method, options = open_method(config.method, config.options)
    codec = load_codec(fetch(base))
    if codec.architecture not in method.ARCHITECTURES:
        raise ConfigError(
            f"The method {config.method} cannot train {base}: its architecture is {codec.architecture}.",
            hint=f"It trains {' and '.join(method.ARCHITECTURES)} models: choose another --base or --method.",
        )
    if "logits" in method.needs(options) and (local := white_box(teacher)):
        check_same_tokenizer(codec, local, config.method, without_white_box())


def _in_turn(method: Any, options: Any) -> AbstractContextManager[None]:
    """Where a teacher is asked in words, one process asks first; the others find the replies in the cache."""
    in_turn: AbstractContextManager[None] = PartialState().main_process_first()
    return in_turn if "text" in method.needs(options) else nullcontext()


def _prepared(method: Any, examples: Sequence[Example], course: Course) -> Prepared:
    """The rows as the method wants them; one process asks for all of them what a teacher is asked for that."""
    if not hasattr(method, "prepare"):
        return Prepared(examples)
    return _same(method.prepare(examples, course) if PartialState().is_main_process else Prepared([]))


def _lessons(method: Any, prepared: Prepared, course: Course, name: str) -> list[Lesson]:
    lessons = [lesson for lesson in method.rows(prepared.examples, course) if lesson]
    if not lessons:
        reasons = ", ".join(f"{count} × {reason}" for reason, count in prepared.dropped.items())
        raise DataError(
            f"The method {name} can use none of the training rows: {reasons or 'they lack what it learns from'}.",
            hint="Train with --method seqkd, which needs an answer and no more.",
        )
    return lessons


def _equipped(method: Any, model: Any, course: Course, lora_rank: int) -> Any:
    """The model as it is trained, with whatever the method adds to it."""
    torch.manual_seed(course.seed)  # adapters start at random
    adapted = adapt(model, lora_rank)
    if hasattr(method, "equip"):
        method.equip(adapted, course)
    return adapted


def _supply(
    method: Any, lessons: Sequence[Lesson], model: Any, course: Course, batch_rows: int, accelerator: Accelerator
) -> Supply:
    """The rows as they are, or made anew by the student as it is; each process makes its share, all get the whole."""
    if not hasattr(method, "rollouts"):
        return Supply(lessons, batch_rows, course.seed)

    def roll(drawn: Sequence[Lesson], number: int, learned: Sequence[Lesson]) -> list[Lesson]:
        model.eval()
        mine = range(accelerator.process_index, len(drawn), accelerator.num_processes)
        student = LocalModel(model, course.codec, name="student")
        seeds = [Random(f"{course.seed}/{number}/{place}").getrandbits(63) for place in mine]  # noqa: S311 - no secret
        made = method.rollouts(student, [drawn[place] for place in mine], course, seeds)
        gathered = gather_object(list(zip(mine, made, strict=True)))
        fresh = [lesson for _, lesson in sorted(gathered, key=lambda pair: pair[0]) if lesson]
        if not fresh:
            raise DataError(
                "Nothing is left to learn from: the method kept none of the lessons made while the student learns.",
                hint="Ask for less: a lower threshold in train.options, or more labelled rows.",
            )
        return fresh + (method.hindsight(student, learned, course) if hasattr(method, "hindsight") else [])

    return Supply(lessons, batch_rows, course.seed, roll, method.block(course.options))


def _accelerator() -> Accelerator:
    """This process and the others that `accelerate launch` started beside it."""
    accelerator = Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise ConfigError(
            f"Training under {accelerator.distributed_type.value} would cut the model into pieces; it must be whole.",
            hint="accelerate launch --multi_gpu gives each GPU the whole model.",
        )
    return accelerator


def _kept(unfinished: Path, key: str) -> Kept | None:
    """The checkpoint that a killed process left of this very training, or None."""
    kept = checkpoints.load(unfinished)
    return kept if kept is not None and kept[1]["key"] == key else None


def _same(value: T) -> T:
    """The main process's value, in every process."""
    found: T = broadcast_object_list([value])[0]
    return found


def _plan(method: Any, supply: Supply, model: Any, course: Course, config: TrainConfig, **also: Any) -> Plan:
    per_epoch = supply.steps_per_epoch
    steps = max(1, round(per_epoch * config.epochs))
    return Plan(
        steps=steps,
        steps_per_epoch=per_epoch,
        peak=config.learning_rate or _factor(method, course) * _usual_rate(model, course.codec, config),
        validate_every=max(1, min(steps, per_epoch) // config.validations_per_epoch),
        patience=config.patience,
        best_by=config.best_by,
        shares=method.shares(course.options) if hasattr(method, "shares") else {"": 1.0},
        seed=course.seed,
        **also,
    )


def _factor(method: Any, course: Course) -> float:
    return float(method.rate(course.options)) if hasattr(method, "rate") else 1.0


def _usual_rate(model: Any, codec: Codec, config: TrainConfig) -> float:
    """The usual learning rate: one that suits the architecture, LoRA and the size."""
    if config.lora_rank:
        return 5e-4
    if codec.architecture == "encoder-decoder":
        return 3e-4
    return 5e-5 if sum(map(Tensor.numel, _own(model))) < 5e8 else 2e-5


def _own(model: Any) -> list[Tensor]:
    """The student's parameters, without its equipment's."""
    return [parameter for name, parameter in model.named_parameters() if not name.startswith("equipment.")]


def _finish(
    loop: Loop, base: str, method: str, most: int, calibration: Callable[..., dict[str, float]] | None, **also: Any
) -> Student:
    """Write the best checkpoint as a plain transformers folder and forget what only a resumption needs.

    `most` is how many tokens its answers may have; `calibration` takes its leaning to some labels away and returns it.
    """
    state, model = loop.state, loop.model
    trained = sum(parameter.numel() for parameter in _own(model) if parameter.requires_grad)
    loop.accelerator.wait_for_everyone()
    if state.best >= 0 and (best := checkpoints.load(loop.best)) is not None:
        model.load_state_dict(best[0], strict=False)
    if hasattr(model, "equipment"):
        del model.equipment
    model = merge(model).eval()
    leaning = calibration(model, loop.codec) if calibration else {}  # the same in each process
    loop.accelerator.wait_for_everyone()  # all have read what is removed here
    if loop.accelerator.is_main_process:
        save(model, loop.codec, loop.folder, most)
        for leftover in (loop.unfinished, loop.best, loop.folder / "init", loop.folder / "warm-up" / "student"):
            checkpoints.remove(leftover)
    loop.accelerator.wait_for_everyone()
    return Student(
        folder=loop.folder,
        base=base,
        method=method,
        parameters=model.num_parameters(),
        trained_parameters=trained,
        steps=state.step,
        best_step=state.history[state.best]["step"] if state.best >= 0 else state.step,
        tokens=state.tokens,
        seconds=state.seconds,
        tokens_per_second=state.tokens / max(state.step_seconds, 1e-9),
        precision=loop.plan.precision,
        history=tuple(Checkpoint(**one) for one in state.history),
        losses=tuple(state.losses),
        notes=_notes(loop, leaning),
        **also,
    )


def _notes(loop: Loop, leaning: dict[str, float]) -> tuple[str, ...]:
    """What a reader of the report should know about how the training went."""
    notes = []
    if loop.state.best < 0:
        notes.append("There were no validation rows: the last step's weights were kept, not the best.")
    if loop.state.step < loop.plan.steps:
        notes.append(f"Stopped at step {loop.state.step} of {loop.plan.steps}: the score no longer rose.")
    if leaning:
        label, nats = max(leaning.items(), key=lambda one: one[1])
        notes.append(
            f"On words drawn at random it favoured {label!r} (label bias); calibration removed {nats:.1f} nats."
        )
    return tuple(notes)
