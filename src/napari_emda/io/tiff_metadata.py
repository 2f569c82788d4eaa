"""What a TIFF states about itself: its voxel size, and how many sections it should hold."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from xml.etree import ElementTree

import tifffile

from napari_emda.data.units import nanometres
from napari_emda.errors import DataError, listed
from napari_emda.io.units import Calibration, calibrated, number
from napari_emda.json_text import parse_json

# Printers' default, which programs write when they know of no size. ImageJ ignores it likewise.
_DEFAULT_DPI = 72

# The codes of TIFF 6.0 for units of resolution; 1 means "no absolute unit".
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}

# Pixels in nm that a resolution without further words may state. The finest printers have 10 um,
# and images of electron microscopes less than one.
_LARGEST_PLAIN_PIXEL = 1000.0

# Tags of TIFF 6.0 without which a page cannot be decoded: width, length, bits, compression, what
# the values mean, samples per pixel, predictor, and the format of a sample.
_DECODING = (256, 257, 258, 259, 262, 277, 317, 339)

# Names of lost files that a message lists; a series may have thousands.
_LISTED = 3


def calibration(file: tifffile.TiffFile, scene: int = 0) -> Calibration:
    """The voxel size in the ImageJ or OME metadata of an image, each axis in its own unit.

    Other files state the size of a pixel at most: electron microscopes in tags of their own, and
    programs as a resolution.
    """
    if file.is_ome and file.ome_metadata:
        return _ome_calibration(file.ome_metadata, scene)
    if file.is_imagej:
        return _imagej_calibration(file)
    y, x = _microscope_pixel(file) or _resolution_pixel(file.pages.first.tags)
    return calibrated((None, y, x), (None, "nm", "nm"))


def _ome_calibration(xml: str, scene: int) -> Calibration:
    images = ElementTree.fromstring(xml).findall(".//{*}Pixels")
    if scene >= len(images):
        return Calibration()
    pixels = images[scene]
    sizes = [number(pixels.get(f"PhysicalSize{axis}")) for axis in "ZYX"]
    # The OME schema defines µm as the default unit.
    units = [pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m") for axis in "ZYX"]
    return calibrated(sizes, units)


def _imagej_calibration(file: tifffile.TiffFile) -> Calibration:
    metadata = file.imagej_metadata or {}
    tags = file.pages.first.tags
    sizes = [number(metadata.get("spacing")), *_pixel_in_units(tags)]
    unit = metadata.get("unit")
    if unit is None:
        unit = _resolution_unit(tags)
        if unit == "inch" and sizes[-1] == 1 / _DEFAULT_DPI:
            unit = None
    # ImageJ writes a unit of y or z only where it differs from that of x.
    units = [metadata.get("zunit", unit), metadata.get("yunit", unit), unit]
    return calibrated(sizes, [None if unit is None else str(unit) for unit in units])


def _pixel_in_units(tags: tifffile.TiffTags) -> list[float | None]:
    """Sizes of a pixel along y and x, in the file's unit of resolution."""
    sizes = []
    for name in ("YResolution", "XResolution"):
        # A resolution is pixels per unit, as a fraction.
        pixels, length = tags[name].value if name in tags else (0, 1)
        sizes.append(length / pixels if pixels else None)
    return sizes


def _resolution_unit(tags: tifffile.TiffTags) -> str | None:
    """The unit of a resolution, if it is a length."""
    code = int(tags["ResolutionUnit"].value) if "ResolutionUnit" in tags else 1
    return _RESOLUTION_UNITS.get(code)


def _resolution_pixel(tags: tifffile.TiffTags) -> tuple[float | None, float | None]:
    """Sizes of a pixel along y and x in nm by the resolution, unless a printer is meant."""
    factor = nanometres(_resolution_unit(tags))
    y, x = (
        None if factor is None or size is None else size * factor for size in _pixel_in_units(tags)
    )
    if y is None or x is None or max(y, x) > _LARGEST_PLAIN_PIXEL:
        return None, None
    return y, x


def _microscope_pixel(file: tifffile.TiffFile) -> tuple[float, float] | None:
    """Sizes of a pixel along y and x in nm in the tags of FEI and Zeiss, if there are any."""
    if file.is_fei:
        scan = (file.fei_metadata or {}).get("Scan", {})
        metres = [scan.get(f"Pixel{side}") for side in ("Height", "Width")]
        y, x = (size * 1e9 if isinstance(size, float) else 0.0 for size in metres)
        return (y, x) if y and x else None
    if file.is_sem:
        # Such as ("Image Pixel Size", 5.0, "nm"); the other name is that of older programs.
        metadata = file.sem_metadata or {}
        for key in ("ap_image_pixel_size", "ap_pixel_size"):
            _, size, unit = (*metadata.get(key, ()), None, None, None)[:3]
            factor = nanometres(unit)
            if isinstance(size, int | float) and factor is not None:
                return size * factor, size * factor
    return None


def check_section_count(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path
) -> None:
    """Compare the number of sections that the metadata state with those in the file.

    tifffile fills sections that are not there with black, and leaves out those that the metadata do
    not mention.

    Args:
        file: opened.
        series: the image in it that is read.
        path: of the file, for the messages.

    Raises:
        DataError: the numbers differ; the message has both.
    """
    if series.kind == "ome":
        _check_ome(file, series, path)
    elif file.is_imagej:
        metadata = file.imagej_metadata or {}
        axes = [metadata.get(name) for name in ("channels", "slices", "frames")]
        counts = [count for count in axes if isinstance(count, int)]
        stated = {math.prod(counts)} if counts else set()
        if isinstance(metadata.get("images"), int):
            stated.add(metadata["images"])
        held = _imagej_planes(file, max(stated, default=1))
        for count in stated - {held}:
            raise _other_count(path, count, held)
    elif len(file.series) == 1:
        stated_planes = _shaped_planes(file.pages.first)
        if stated_planes not in (None, len(file.pages)):
            raise _other_count(path, stated_planes, len(file.pages))


def _other_count(path: Path, stated: int, held: int) -> DataError:
    return DataError(
        f"{path.name} says that it holds {stated} section{'s' * (stated != 1)}, but it holds "
        f"{held}: copy it again, or save the stack again from the program that made it."
    )


def _check_ome(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, path: Path) -> None:
    stated = len(series.pages)
    # tifffile's pages are None where the described plane is in no file.
    held = sum(page is not None for page in series.pages)
    if held < stated:
        lost = _lost_files(file.ome_metadata or "", path)
        remedy = f"put {lost} back beside it" if lost else "copy it again, or save the stack again"
        raise DataError(
            f"{path.name} says that it holds {stated} sections, but {held} of them are there: "
            f"{remedy}."
        )
    described = sum(len(series.pages) for series in file.series)
    last = page_at(file, len(file.pages) - 1)
    # Pages of another shape are previews, and reduced ones the levels of a pyramid.
    if (
        len(file.pages) > described
        and not last.is_reduced
        and last.shape == file.pages.first.shape
        and last.dtype == file.pages.first.dtype
    ):
        raise _other_count(path, described, len(file.pages))


def page_at(file: tifffile.TiffFile, index: int) -> tifffile.TiffPage:
    """A page with all of its own tags; tifffile copies those of the first page otherwise."""
    page = file.pages.get(index, aspage=True, cache=False)
    assert isinstance(page, tifffile.TiffPage)
    return page


def headers_agree(file: tifffile.TiffFile) -> bool:
    """Whether all pages have the same size, type and compression as the first one.

    tifffile looks at a few pages only, and decodes the others like the first. Parsing all headers
    of a long stack takes seconds, and comparing their bytes a hundredth of that.
    """
    first = _header(file, file.pages.first.offset)
    return all(_header(file, page.offset) == first for page in file.pages)


def _header(file: tifffile.TiffFile, offset: int) -> dict[int, bytes]:
    """The tags of a page that say how to decode it, as bytes."""
    handle = file.filehandle
    handle.seek(offset)
    (count,) = struct.unpack(file.tiff.tagnoformat, handle.read(file.tiff.tagnosize))
    size = file.tiff.tagsize
    content = handle.read(count * size)
    entries = [content[start : start + size] for start in range(0, len(content), size)]
    codes = (struct.unpack_from(f"{file.byteorder}H", entry)[0] for entry in entries)
    return {code: entry for code, entry in zip(codes, entries, strict=True) if code in _DECODING}


def _lost_files(xml: str, path: Path) -> str:
    """The files that an OME-TIFF of several files names and that are not beside it."""
    names = {
        # The last part only: a name in a file may point anywhere.
        Path(element.get("FileName", "").replace("\\", "/")).name
        for element in ElementTree.fromstring(xml).iter()
        if element.tag.endswith("UUID")
    }
    lost = sorted(name for name in names if name and not (path.parent / name).exists())
    names_to_list = ["".join(c if c.isprintable() else "?" for c in name) for name in lost]
    if len(lost) > _LISTED:
        names_to_list[_LISTED:] = [f"{len(lost) - _LISTED} more"]
    return listed(names_to_list)


def _imagej_planes(file: tifffile.TiffFile, stated: int) -> int:
    """The number of planes in an ImageJ file; ImageJ may write one header for all of them."""
    first = file.pages.first
    if len(file.pages) > 1 or stated == 1 or not first.is_contiguous:
        return len(file.pages)
    (start, size) = (first.dataoffsets[0], first.nbytes)
    # A header behind the voxels is no voxels.
    end = file.filehandle.size if first.offset < start else max(first.offset, start)
    return (end - start) // size if size else len(file.pages)


def _shaped_planes(page: tifffile.TiffPage) -> int | None:
    """The number of pages that tifffile's own description states; None without one."""
    if not page.description.startswith('{"shape":'):
        return None
    try:
        description = parse_json(page.description)
        shape = [int(length) for length in description["shape"]]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    # "Truncated" is a stack with one header for all of its sections.
    size = math.prod(page.shape)
    return None if description.get("truncated") or not size else math.prod(shape) // size
