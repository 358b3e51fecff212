"""Frames of the simulator without a screen, by EGL or OSMesa."""

import os
import sys
from collections.abc import Callable
from ctypes import CDLL
from ctypes.util import find_library
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError, unknown_name_message

Frame = NDArray[np.uint8]
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # by the simulator's name, as the system names them
CAMERA = "corner2"  # the one of Meta-World's own pictures
HEIGHT, WIDTH = 240, 320
PACKAGES = {"egl": "libegl1", "osmesa": "libosmesa6"}  # of Debian
# Other values that the simulator knows: without a library, and the one that draws on a screen.
OFF = ("disable", "disabled", "off", "false", "0")
SCREEN = ("glfw", "glx", "enable", "enabled", "on", "true", "1")
REMEDY = "install libegl1 or libosmesa6, or set MUJOCO_GL"


def check_graphics_setting() -> None:
    """Check ``MUJOCO_GL``, with some values of which the simulator cannot be imported.

    Raises:
        UserError: If it names no library, or one that is not on this machine.
    """
    name = _read_setting()
    if not name or name in (*OFF, *SCREEN):
        return
    if name not in LIBRARIES:
        known = (*LIBRARIES, "glfw", "off")
        raise UserError(f"MUJOCO_GL: {unknown_name_message('graphics library', name, known)}")
    if not has_library(LIBRARIES[name]):
        raise UserError(
            f"MUJOCO_GL is {name}, but {LIBRARIES[name]} is not on this machine: install "
            f"{PACKAGES[name]}, or unset MUJOCO_GL"
        )


def has_library(name: str) -> bool:
    """Return whether the system lists a library, or loads it from a path of the environment."""
    if find_library(name):
        return True
    try:
        CDLL(f"lib{name}.so")
    except OSError:
        return False
    return True


def _read_setting() -> str:
    """Return the value of ``MUJOCO_GL`` as the simulator reads it; empty where it does not."""
    is_read = "mujoco" not in sys.modules and sys.platform.startswith("linux")
    return os.environ.get("MUJOCO_GL", "").lower().strip() if is_read else ""


def choose_graphics_library() -> None:
    """Choose the library that draws frames, before the simulator is first imported.

    ``MUJOCO_GL`` decides if it is set.

    Raises:
        UserError: If there is none, or if the one that is set cannot draw.
    """
    check_graphics_setting()
    name = _read_setting()
    has_screen = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if name in OFF or (name in SCREEN and not has_screen):
        reason = "draws nothing" if name in OFF else "needs a screen, and there is none"
        raise UserError(f"--render: MUJOCO_GL is {name}, which {reason}: set it to egl or osmesa")
    if name or "mujoco" in sys.modules or not sys.platform.startswith("linux"):
        return
    found = [name for name, library in LIBRARIES.items() if has_library(library)]
    if not found:
        raise UserError(
            f"--render: received a task, but neither EGL nor OSMesa is on this machine: {REMEDY}"
        )
    os.environ["MUJOCO_GL"] = found[0]


def make_frame_renderer(simulator: Any) -> Callable[[], Frame]:
    """Return a function that draws the simulator's present state, ``(height, width, 3)``.

    Raises:
        UserError: If the graphics library cannot draw.
    """
    import mujoco

    for name in ("_gl_context", "_mjr_context"):  # else a renderer that failed prints a traceback
        if not hasattr(mujoco.Renderer, name):
            setattr(mujoco.Renderer, name, None)
    try:
        renderer = mujoco.Renderer(simulator.model, HEIGHT, WIDTH)
        renderer.update_scene(simulator.data, camera=CAMERA)
        renderer.render()
    except Exception as error:  # each library has its own
        library = os.environ.get("MUJOCO_GL", "the default library")
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"--render: {library} cannot draw here ({text}): {REMEDY}") from None

    def draw_frame() -> Frame:
        renderer.update_scene(simulator.data, camera=CAMERA)
        frame: Frame = renderer.render()[::-1, ::-1]  # the camera is upside down
        return frame

    return draw_frame
