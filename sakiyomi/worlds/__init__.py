"""Gymnasium environments; importing this registers them: `sakiyomi/PickCube-v0` and `sakiyomi/Push-v0`.

It also asks MuJoCo for EGL, which renders without a display, before MuJoCo is imported for the first time.
"""

import ctypes
import importlib
import importlib.util
import os

import gymnasium

from sakiyomi.errors import SakiyomiError

os.environ.setdefault("MUJOCO_GL", "egl")


def no_renderer(error: BaseException) -> SakiyomiError:
    """What to tell somebody whose machine cannot render off-screen."""
    return SakiyomiError(
        f"MuJoCo found no off-screen renderer (MUJOCO_GL={os.environ['MUJOCO_GL']}): {error}. "
        "On Debian or Ubuntu: apt-get install libegl1 libgl1-mesa-dri libopengl0; or set MUJOCO_GL=osmesa (package "
        "libosmesa6); where mujoco was imported before sakiyomi.worlds, set MUJOCO_GL=egl before that"
    )


try:
    import mujoco as _mujoco  # noqa: F401  (asked for here so that a missing library is explained)
# PyOpenGL raises AttributeError without libEGL, ArgumentError without libOpenGL.
except (ImportError, AttributeError, RuntimeError, ctypes.ArgumentError) as error:
    raise no_renderer(error) from error

# Triton (which torch loads on the first optimizer) and Mesa's software renderer each bring an LLVM. Triton loaded
# second crashes the process, loaded first it does not; so it is loaded before any renderer can be.
if importlib.util.find_spec("triton") is not None:
    importlib.import_module("triton")

gymnasium.register("sakiyomi/PickCube-v0", entry_point="sakiyomi.worlds.pick_cube:PickCube", max_episode_steps=45)
gymnasium.register("sakiyomi/Push-v0", entry_point="sakiyomi.worlds.push:Push", max_episode_steps=30)
