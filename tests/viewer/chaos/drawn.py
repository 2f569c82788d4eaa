"""What is really drawn on the canvas: positions from the scene of vispy, grey values from pixels.

Neither napari's mouse nor the dock is asked: their idea of where things are is what is checked.
"""

import numpy as np
import zarr
from qtpy.QtGui import QImage

# Fewer pixels say nothing about a picture.
_ENOUGH = 40
# Pixels beyond which no mouse gets.
FAR = 5_000
# Least width of a voxel on the canvas in pixels at which its grey value can be read.
_LEAST_WIDTH = 3


def visual_of(user, layer):
    return user.viewer.window._qt_viewer.layer_to_visual.get(layer)


def flat(user):
    """Whether the canvas shows sections, one on top of the other."""
    return user.viewer.dims.ndisplay == 2 and not user.viewer.canvas.grid.enabled


def section_of(layer):
    """The entry of a layer's first axis that is drawn; None if that axis is displayed."""
    if layer.ndim < 3 or 0 in layer._slice_input.displayed:
        return None
    return int(np.round(np.nan_to_num(layer._data_slice.point[0])))


def pixels_of(user, layer, rows, columns):
    """Where the centres of voxels of the drawn section are on the canvas, (n, 2) as x, y."""
    visual = visual_of(user, layer)
    if visual is None:
        return None
    rows, columns = np.broadcast_arrays(rows, columns)
    # vispy counts x, y; a transposed view displays the columns as rows.
    first, second = rows, columns
    displayed = layer._slice_input.displayed
    if displayed[-1] < displayed[-2]:
        first, second = columns, rows
    points = np.column_stack([second.ravel(), first.ravel()]) + 0.5
    mapped = visual.node.get_transform("visual", "canvas").map(points)
    return mapped[:, :2] / mapped[:, 3:]


def photograph(user):
    """The canvas as grey values (height, width)."""
    image = user.canvas.grabFramebuffer().convertToFormat(QImage.Format.Format_RGBX8888)
    height, width = image.height(), image.width()
    bits = image.constBits()
    bits.setsize(image.sizeInBytes())
    values = np.frombuffer(bits, np.uint8).reshape(height, image.bytesPerLine() // 4, 4)
    return values[:, :width, :3].astype(np.float32).mean(-1)


def stored_image(user, volume):
    """The voxels of a volume from its file."""
    entry = user.opened.project.volumes.entry(volume)
    path = user.folder / entry.image
    if path.suffix == ".tif":
        import tifffile

        return tifffile.imread(path)
    return np.asarray(zarr.open(path, mode="r")["0"][:]) if _is_group(path) else zarr.open(path)[:]


def _is_group(path):
    return isinstance(zarr.open(path, mode="r"), zarr.Group)


def voxels_at(user, layer, points):
    """The rows and columns of a layer's drawn section at points of the canvas."""
    transform = visual_of(user, layer).node.get_transform("visual", "canvas")
    mapped = transform.imap(points)
    second, first = np.floor(mapped[:, :2] / mapped[:, 3:]).astype(int).T
    displayed = layer._slice_input.displayed
    return (second, first) if displayed[-1] < displayed[-2] else (first, second)


def likeness(user, region, layer, images):
    """How well the canvas agrees with each volume, where a patch is painted.

    Args:
        user: whose canvas it is.
        region: the patch.
        layer: of its annotations; what they cover is left out.
        images: (z, y, x) by name of volume.

    Returns:
        The correlation by name, with the voxels that get the paint for the volume of the patch, and
        for others with those that their layers show there; empty if nothing can be read.
    """
    z = section_of(layer)
    if z is None or not 0 <= z < layer.data.shape[0] or not flat(user):
        return {}
    _, _, y0, y1, x0, x1 = region.voxels.bounds
    rows, columns = (part.ravel() for part in np.mgrid[y0:y1, x0:x1])
    points = pixels_of(user, layer, rows, columns)
    if points is None or not np.isfinite(points).all():
        return {}
    seen = photograph(user)
    x, y = np.clip(np.round(points), -1, FAR).astype(int).T
    readable = (x >= 0) & (y >= 0) & (x < seen.shape[1]) & (y < seen.shape[0])
    readable &= np.asarray(layer.data[z, y0:y1, x0:x1]).ravel() == 0
    if np.linalg.norm(points[1] - points[0]) < _LEAST_WIDTH or readable.sum() < _ENOUGH:
        return {}
    grey = seen[y[readable], x[readable]]
    found = {}
    for name, values in images.items():
        picture = user.opened.image(name)
        if name == region.volume:
            found[name] = _correlation(grey, values[z, rows[readable], columns[readable]])
        elif picture is not None and picture.visible and section_of(picture) is not None:
            drawn = voxels_at(user, picture, points[readable])
            where = np.array([np.full(len(grey), section_of(picture)), *drawn])
            inside = ((where >= 0) & (values.shape > where.T).T).all(0)
            if inside.sum() >= _ENOUGH:
                found[name] = _correlation(grey[inside], values[tuple(where[:, inside])])
    return found


def _correlation(grey, values):
    if grey.std() == 0 or values.std() == 0:
        return 0.0
    return float(np.corrcoef(grey, values.astype(np.float32))[0, 1])
