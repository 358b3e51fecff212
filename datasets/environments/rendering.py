"""Frames of the simulator without a screen, by EGL or OSMesa."""

import os
import sys
from collections.abc import Callable
from ctypes.util import find_library
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import UserError

Frame = NDArray[np.uint8]
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # by the simulator's name, as the system names them
CAMERA = "corner2"  # the one of Meta-World's own pictures
HEIGHT, WIDTH = 240, 320
REMEDY = "install libegl1 or libosmesa6, or set MUJOCO_GL"


def choose_graphics_library() -> None:
    """Choose the library that draws frames, before the simulator is first imported.

    ``MUJOCO_GL`` decides if it is set.

    Raises:
        UserError: If there is none.
    """
    if (
        os.environ.get("MUJOCO_GL")
        or "mujoco" in sys.modules
        or not sys.platform.startswith("linux")
    ):
        return
    found = [name for name, library in LIBRARIES.items() if find_library(library)]
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
