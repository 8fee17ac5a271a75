"""A trained character together with what steers it, out of run folders: for the page, and to be recorded."""

from pathlib import Path

from sakiyomi.control import Controller, load_controller, load_job, task_name
from sakiyomi.serve import Stage
from sakiyomi.walk import character_of


def stage_of(name: str, folder: Path) -> Stage:
    """The character of a run, with what steers it: the run itself, or the ones beside it that were trained for it."""
    if steers(folder):
        controller = controller_of(folder, "cpu")
        return Stage(name, controller.character, {task_name(controller.job.task): controller})
    character = character_of(folder, device="cpu")
    return Stage(name, character, {task: load_controller(f, character) for task, f in controllers_for(folder)})


def controllers_for(folder: Path) -> list[tuple[str, Path]]:
    """Of the runs beside this one, those that steer its character by a stick or to a target: task and folder."""
    found = {}
    for path in sorted(folder.parent.glob("*/weights.safetensors")):
        if steers(path.parent) and Path(load_job(path.parent).character).resolve() == folder.resolve():
            found[task_name(load_job(path.parent).task)] = path.parent
    return [(task, found[task]) for task in ("joystick", "target") if task in found]


def controller_of(folder: Path, device: str = "auto") -> Controller:
    """A trained controller with the character it was trained on."""
    return load_controller(folder, character_of(load_job(folder).character, device=device))


def steers(folder: Path) -> bool:
    """The folder holds a controller."""
    return b'"task"' in (folder / "job.json").read_bytes() if (folder / "job.json").exists() else False
