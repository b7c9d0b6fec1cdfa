"""What the first bytes of a file say that it is."""

import re

HEIC = "a HEIC image"
AVIF = "an AVIF image"
# How images begin that decode reads, and then those that it does not.
READ = {
    "a JPEG image": rb"\xff\xd8\xff",
    "a PNG image": rb"\x89PNG\r\n\x1a\n",
    "a GIF image": rb"GIF8[79]a",
    "a BMP image": rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}",
    "a TIFF image": rb"II[*+]\0|MM\0[*+]",
    "a JPEG 2000 image": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "a PPM image": rb"P[1-6f]\s+[#\d]",
    "a WebP image": rb"RIFF.{4}WEBP",
    AVIF: rb".{4}ftyp(avi[fs]|m[is]f1.{4}(.{4}){0,8}?avi[fs])",
}
NOT_READ = {
    HEIC: rb".{4}ftyp(hei[cxms]|hev[cxms]|m[is]f1)",
    "a JPEG XL image": rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n",
    "a Photoshop image": rb"8BPS\0[\x01\x02]",
    "an EPS image": rb"%!PS-Adobe|\xc5\xd0\xd3\xc6",
    "an icon": rb"\0\0[\x01\x02]\0[^\0]\0",
    "a DDS image": rb"DDS \x7c\0{3}",
    "a QOI image": rb"qoif",
    "an SGI image": rb"\x01\xda[\0\x01][\x01\x02]",
    "a PCX image": rb"\n[\0-\x05][\0\x01][\x01\x02\x04\x08]",
    "a FITS image": rb"SIMPLE  =",
    "an OpenEXR image": rb"v/1\x01",
    "a Radiance image": rb"#\?(RADIANCE|RGBE)",
    "a DICOM image": rb".{128}DICM",
    "a photograph in a camera's own format": rb".{4}ftypcrx|FUJIFILMCCD-RAW",
}
GIT_LFS = b"version https://git-lfs"
_COMPILED = {kind: re.compile(pattern, re.DOTALL) for kind, pattern in (READ | NOT_READ).items()}


def kind_of(head: bytes) -> str:
    """The kind of an image, for people, such as "a PNG image"; empty for what is none.

    Args:
        head: the whole file, or its first 256 bytes.
    """
    found = (kind for kind, pattern in _COMPILED.items() if pattern.match(head[:256]))
    return next(found, "")


def beginning_of(head: bytes) -> str:
    """How a file begins that is no image, for people: as text if it is that."""
    if head.startswith(GIT_LFS):
        return "a pointer of Git LFS, to be replaced by git lfs pull"
    if not any(head):
        return "it holds nothing but zeros"
    start = head[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    words = start.decode(errors="replace").split()
    text = words[0][:20] if words else ""
    if text and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text:
        return f"it begins with {text!r}"
    return f"it begins with the bytes {head[:8].hex(' ')}"
