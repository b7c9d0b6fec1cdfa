"""Images of more than 8 bits a channel, in forms that Pillow reads and does not write."""

import struct
import zlib

import numpy as np

PNG_COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # by the number of channels
INTEGER, SIGNED, FLOAT = 1, 2, 3  # SampleFormat of TIFF


def png(values: np.ndarray, transparent: tuple[int, ...] = ()) -> bytes:
    """A PNG of 16 bits: uint16 [height, width] or [height, width, channels], 1 to 4.

    Args:
        transparent: the value or colour that stands for transparency.
    """
    height, width, channels = np.atleast_3d(values).shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, PNG_COLOUR[channels], 0, 0, 0))]
    if transparent:
        chunks.append((b"tRNS", struct.pack(f">{len(transparent)}H", *transparent)))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data
        content += struct.pack(">I", zlib.crc32(kind + data))
    return content


def pnm(values: np.ndarray, white: int, is_text: bool = False) -> bytes:
    """A PGM or PPM of 16 bits: uint16 [height, width] or [height, width, 3]."""
    number = (2 if values.ndim == 2 else 3) + (0 if is_text else 3)
    header = f"P{number}\n{values.shape[1]} {values.shape[0]}\n{white}\n".encode()
    if is_text:
        return header + " ".join(map(str, values.ravel())).encode()
    return header + values.astype(">u2").tobytes()


def tiff(
    values: np.ndarray,
    kind: int = INTEGER,
    order: str = "<",
    is_inverted: bool = False,
    is_planar: bool = False,
    is_compressed: bool = False,
) -> bytes:
    """A TIFF: [height, width] or [height, width, 3 or 4], of any dtype, in strips of one row.

    Args:
        kind: SampleFormat.
        order: of the bytes, < or >.
        is_inverted: 0 is white.
        is_planar: one channel comes behind another.
    """
    values = values.astype(values.dtype.newbyteorder(order))  # type: ignore[arg-type]
    height, width, channels = np.atleast_3d(values).shape
    planes = [values[..., channel] for channel in range(channels)] if is_planar else [values]
    strips = [np.ascontiguousarray(row).tobytes() for plane in planes for row in plane]
    if is_compressed:
        strips = [zlib.compress(strip) for strip in strips]
    short, long = "H", "I"
    tags: list[tuple[int, str, list[int]]] = [
        (256, long, [width]),
        (257, long, [height]),
        (258, short, [8 * values.dtype.itemsize] * channels),
        (259, short, [8 if is_compressed else 1]),
        (262, short, [2 if channels > 2 else 0 if is_inverted else 1]),
        (273, long, [0] * len(strips)),  # places of the strips, below
        (277, short, [channels]),
        (278, long, [1]),  # rows of a strip
        (279, long, [len(strip) for strip in strips]),
        (284, short, [2 if is_planar else 1]),
        *([(338, short, [2])] if channels == 4 else []),  # alpha
        (339, short, [kind] * channels),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    extra_size = sum(
        size for _, form, numbers in tags if (size := struct.calcsize(form) * len(numbers)) > 4
    )
    places = start + extra_size + np.cumsum([0, *map(len, strips[:-1])])
    tags[5] = (273, long, places.tolist())
    entries = extra = b""
    for tag, form, numbers in tags:
        data = struct.pack(f"{order}{len(numbers)}{form}", *numbers)
        if len(data) > 4:
            data, extra = struct.pack(f"{order}I", start + len(extra)), extra + data
        entries += struct.pack(f"{order}HHI", tag, {short: 3, long: 4}[form], len(numbers))
        entries += data.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return head + entries + bytes(4) + extra + b"".join(strips)
