"""Offscreen pictures: one OpenGL context per environment, both cameras, colours or segmentation.

MuJoCo frees rendering resources in whatever context is current, so closing one `mujoco.Renderer` can delete
the frame buffers of another, which then renders black without an error. Here the own context is made current
before every use and before freeing, garbage collection included.
"""

import atexit
import os
import weakref
from collections.abc import Iterable

import mujoco
import numpy as np

from posa_vla.sim.objects import VISIBLE


def _gl_context(size: int):
    """MuJoCo picks its backend when it is first imported, perhaps before this package could ask for EGL."""
    if os.environ["MUJOCO_GL"] == "egl":
        from mujoco.egl import GLContext

        return GLContext(size, size)
    return mujoco.GLContext(size, size)


def _free(context: mujoco.MjrContext, gl) -> None:
    gl.make_current()
    context.free()
    gl.free()


class SceneRenderer:
    """Renders square pictures of one model: of `size` pixels, or of another size up to `largest` where asked.

    Shadows, reflections and multisampling are off.
    """

    def __init__(self, model: mujoco.MjModel, size: int, largest: int = 0):
        self.model, self.size = model, size
        largest = max(largest, size)
        model.vis.global_.offwidth = model.vis.global_.offheight = largest
        self._gl = _gl_context(largest)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZERONEAR
        self._scene = mujoco.MjvScene(model, maxgeom=400)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._option = self._options((VISIBLE,))
        self._camera = mujoco.MjvCamera()
        self.close = weakref.finalize(self, _free, self._context, self._gl)
        self.close.atexit = False
        atexit.register(self.close)  # after MuJoCo's own hook, hence run before it terminates the display

    @staticmethod
    def _options(groups: Iterable[int]) -> mujoco.MjvOption:
        option = mujoco.MjvOption()
        option.geomgroup[:] = 0
        option.geomgroup[list(groups)] = 1
        option.sitegroup[:] = 0
        option.flags[mujoco.mjtVisFlag.mjVIS_CONVEXHULL] = 1  # robot links are drawn as the hulls that collide
        return option

    def upload_texture(self, texture: int, pixels: np.ndarray) -> None:
        """Replace a texture's pixels, uint8 (S, S, 3), in the model and on the device."""
        start = self.model.tex_adr[texture]
        self.model.tex_data[start : start + pixels.size] = pixels.ravel()
        self._gl.make_current()
        mujoco.mjr_uploadTexture(self.model, self._context, texture)

    def render(
        self,
        data: mujoco.MjData,
        camera: str,
        markers: Iterable[tuple[np.ndarray, float, tuple[float, float, float, float]]] = (),
        size: int | None = None,
    ) -> np.ndarray:
        """Colours, uint8 (H, W, 3). `markers` are balls to draw: (centre (3,) m in the world, radius m, rgba)."""
        self._update(data, camera, self._option)
        for centre, radius, rgba in markers:
            geom = self._scene.geoms[self._scene.ngeom]
            mujoco.mjv_initGeom(
                geom, mujoco.mjtGeom.mjGEOM_SPHERE, np.full(3, radius), np.asarray(centre, float),
                np.eye(3).ravel(), np.asarray(rgba, np.float32),
            )  # fmt: skip
            self._scene.ngeom += 1
        return self._read(size or self.size)

    def geom_ids(self, data: mujoco.MjData, camera: str, groups: Iterable[int] = (VISIBLE,)) -> np.ndarray:
        """Segmentation: the geom id at each pixel, int32 (H, W), -1 where nothing is."""
        self._update(data, camera, self._options(groups))
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 1
        rgb = self._read(self.size).astype(np.int64)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = 0
        index = rgb[..., 0] + (rgb[..., 1] << 8) + (rgb[..., 2] << 16)
        table = np.full(self._scene.ngeom + 1, -1, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                table[geom.segid + 1] = geom.objid
        return table[index]

    def _update(self, data: mujoco.MjData, camera: str, option: mujoco.MjvOption) -> None:
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = self.model.camera(camera).id
        mujoco.mjv_updateScene(self.model, data, option, None, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene)

    def _read(self, size: int) -> np.ndarray:
        rect, pixels = mujoco.MjrRect(0, 0, size, size), np.empty((size, size, 3), np.uint8)
        self._gl.make_current()
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, rect, self._context)
        return np.flipud(pixels).copy()
