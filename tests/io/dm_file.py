"""Writes DM3 and DM4 files by the descriptions of the format: no library writes them."""

import struct

import numpy as np

CODES = {"i2": (2, 1), "f4": (6, 2), "u1": (10, 6), "i4": (3, 7), "i1": (9, 9), "u2": (4, 10)}
CODES |= {"u4": (5, 11), "f8": (7, 12)}
RGB = 23


def write_dm(path, arrays, size=(50.0, 8.0, 4.0), unit="nm", order="<", types=None):
    """Write images after a thumbnail, as Digital Micrograph does.

    Args:
        size: of a voxel along z, y, x.
        order: of bytes.
        types: of the images, in place of those of the arrays.
    """
    wide = path.suffix == ".dm4"
    thumbnail = np.zeros((8, 8), "u4")
    images = [image(thumbnail, (1, 1), "", order, wide, RGB)]
    types = types or [None] * len(arrays)
    images += [
        image(array, size, unit, order, wide, code)
        for array, code in zip(arrays, types, strict=True)
    ]
    listed = group([entry("", each, wide) for each in images], wide)
    # Some of what files hold besides: a structure, a text and an array of structures.
    fields = struct.pack(f"{order}hf", 3, 2.5)
    tags = [
        entry("ApplicationBounds", data([15, 0, 2, 0, 2, 0, 6], fields, wide), wide),
        entry("InImageMode", data([8], b"\1", wide), wide),
        entry("Notes", data([18, 2], "ab".encode("utf-16-le"), wide), wide),
        entry("CLUT", data([20, 15, 0, 2, 0, 2, 0, 6, 2], 2 * fields, wide), wide),
        entry("ImageList", listed, wide),
    ]
    content = group(tags, wide)[1]
    head = struct.pack(">IQI" if wide else ">III", 4 if wide else 3, len(content), order == "<")
    path.write_bytes(head + content + b"\0" * 8)
    return path


def image(array, size, unit, order, wide, code=None):
    number, kind = CODES[array.dtype.str[1:]]
    kind = code or kind
    values = array.astype(array.dtype.newbyteorder(order)).tobytes()
    letters = np.frombuffer(unit.encode("utf-16-le"), "u2").astype(f"{order}u2")
    axes = []
    for side in size[::-1]:
        scale = data([6], struct.pack(f"{order}f", side), wide)
        units = data([20, 4, len(letters)], letters.tobytes(), wide)
        axes.append(group([entry("Scale", scale, wide), entry("Units", units, wide)], wide))
    lengths = [data([5], struct.pack(f"{order}I", n), wide) for n in array.shape[::-1]]
    calibrations = group([entry("", axis, wide) for axis in axes], wide)
    content = [
        entry("Calibrations", group([entry("Dimension", calibrations, wide)], wide), wide),
        entry("Data", data([20, number, array.size], values, wide), wide),
        entry("DataType", data([5], struct.pack(f"{order}I", kind), wide), wide),
        entry("Dimensions", group([entry("", length, wide) for length in lengths], wide), wide),
    ]
    return group([entry("ImageData", group(content, wide), wide)], wide)


def count(number, wide):
    return struct.pack(">Q" if wide else ">I", number)


def group(entries, wide):
    return 20, b"\1\0" + count(len(entries), wide) + b"".join(entries)


def data(types, values, wide):
    described = count(len(types), wide) + b"".join(count(number, wide) for number in types)
    return 21, b"%%%%" + described + values


def entry(name, tag, wide):
    kind, content = tag
    length = count(len(content), wide) if wide else b""
    return struct.pack(">BH", kind, len(name)) + name.encode() + length + content
