"""Writes LIF files by Leica's description of the format: no library writes them."""

import struct
from xml.sax.saxutils import quoteattr

NUMBERS = {"x": 1, "y": 2, "z": 3, "t": 4}


def write_lif(path, images, size=(5e-8, 8e-9, 4e-9)):
    """Write images, which are pairs of an array and the names of its axes, by their names.

    Args:
        size: of a voxel along z, y, x, in metres.
    """
    metres = dict(zip("zyx", size, strict=True))
    elements = []
    for count, (name, (array, axes)) in enumerate(images.items()):
        dimensions = channels = ""
        for axis, length, stride in zip(axes, array.shape, array.strides, strict=True):
            if axis == "c":
                for channel in range(length):
                    channels += channel_of(array.dtype, channel * stride)
                continue
            extent = metres.get(axis, 1) * (length - 1)
            dimensions += (
                f'<DimensionDescription DimID="{NUMBERS[axis]}" NumberOfElements="{length}" '
                f'Origin="0" Length="{extent!r}" Unit="{"m" if axis in metres else "s"}" '
                f'BitInc="0" BytesInc="{stride}"/>'
            )
        channels = channels or channel_of(array.dtype, 0)
        elements.append(
            f"<Element Name={quoteattr(name)}><Data><Image><ImageDescription>"
            f"<Channels>{channels}</Channels><Dimensions>{dimensions}</Dimensions>"
            f"</ImageDescription></Image></Data>"
            f'<Memory Size="{array.nbytes}" MemoryBlockID="MemBlock_{count}"/></Element>'
        )
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="project"><Data/>'
        f'<Memory Size="0" MemoryBlockID="none"/><Children>{"".join(elements)}</Children>'
        "</Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    with path.open("wb") as file:
        file.write(struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2) + xml)
        for count, (array, _) in enumerate(images.values()):
            name = f"MemBlock_{count}".encode("utf-16-le")
            head = (0x70, len(name) + 14, 0x2A, array.nbytes, 0x2A, len(name) // 2)
            file.write(struct.pack("<IIBQBI", *head) + name + array.tobytes())
    return path


def channel_of(dtype, offset):
    return (
        f'<ChannelDescription DataType="{int(dtype.kind == "f")}" ChannelTag="0" '
        f'Resolution="{8 * dtype.itemsize}" NameOfMeasuredQuantity="" Min="0" Max="1" Unit="" '
        f'LUTName="Gray" IsLUTInverted="0" BytesInc="{offset}" BitInc="0"/>'
    )
