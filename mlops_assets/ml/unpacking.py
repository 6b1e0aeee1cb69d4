"""Delivered bytes, unpacked as far as limits allow, and text where they should be. Rows are in reading.py."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import zipfile
import zlib
from typing import Any, BinaryIO, NamedTuple

from mlops_assets.ml.spec import FileSource, SqlSource

EXTRACT = ".extract.parquet"
CHUNK = 1 << 20
MAX_RATIO, RATIO_FROM = 200, 1 << 26
BOM = b"\xef\xbb\xbf"
SUFFIXES = {"csv": "csv", "tsv": "csv", "txt": "csv", "jsonl": "jsonl", "ndjson": "jsonl", "parquet": "parquet"}
ARCHIVES = {"zip", "gz", "bz2", "xz", "7z", "tar", "tgz", "zst", "rar"}
DAMAGED = (  # whatever the readers of archives raise for broken bytes
    *(OSError, EOFError, ValueError, LookupError, RuntimeError, MemoryError),
    *(zlib.error, lzma.LZMAError, struct.error, zipfile.BadZipFile),
)
SEND_AGAIN = "Have the producer send it again"


class UnreadableFileError(Exception):
    """A delivered file that cannot be read whole. The text names the file, the reason and what to do."""

    def __init__(self, name: str, reason: str, remedy: str = SEND_AGAIN) -> None:
        super().__init__(f"{name} {reason}. {remedy}.")


class Unpacked(NamedTuple):
    """A delivered file: its name, what it is (csv, jsonl or parquet), its content and the limits that it is held to."""

    name: str
    kind: str
    content: bytes
    limits: FileSource


def unpack(stream: BinaryIO, name: str, source: FileSource | SqlSource) -> Unpacked:
    """What a file holds. Raises UnreadableFileError when that is damaged, nothing, too much or no text."""
    limits = source if isinstance(source, FileSource) else FileSource(uri="", files=("",))
    content, inner = _unpacked(stream, name, limits.max_bytes)
    if not content or content.isspace():
        raise UnreadableFileError(name, "is empty")
    kind = format_of(inner, source)
    if kind != "parquet":
        content = content.removeprefix(BOM)
        _refuse_bad_text(content, name, limits)
    return Unpacked(name, kind, content, limits)


def format_of(name: str, source: FileSource | SqlSource) -> str:
    """The format of a file: what the source declares, or else what the name says. Our own extracts are Parquet."""
    if name.endswith(EXTRACT) or isinstance(source, SqlSource):
        return "parquet"
    if source.format != "auto":
        return source.format
    suffix = name.lower().removesuffix(".gz").rpartition(".")[2]
    if suffix not in SUFFIXES:
        raise UnreadableFileError(
            name,
            f"has the unknown suffix {suffix[:20]!r}; known are {', '.join(SUFFIXES)}, each also as .gz or in a .zip",
            "Rename it, or declare source.format",
        )
    return SUFFIXES[suffix]


def _unpacked(stream: BinaryIO, name: str, limit: int) -> tuple[bytes, str]:
    """The content, decompressed as far as `limit` allows, and the name that says its format."""
    suffix = name.lower().rpartition(".")[2]
    packed = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    try:
        if suffix == "gz":
            with gzip.open(stream) as unpacked:
                return _bounded(unpacked, name, limit, stream), name
        if suffix == "zip":
            with zipfile.ZipFile(stream) as archive:
                member = _only_member(archive, name)
                with archive.open(member) as unpacked:
                    return _bounded(unpacked, name, limit, stream), member.filename
    except DAMAGED as error:
        raise UnreadableFileError(name, f"is not a whole .{suffix} archive: {error}") from error
    if packed > limit:
        raise _too_many_bytes(name, limit)
    return stream.read(), name


def _only_member(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
    members = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
    if len(members) != 1:
        raise UnreadableFileError(name, f"holds {len(members)} files; one is expected", "Send each file by itself")
    if members[0].filename.lower().rpartition(".")[2] in ARCHIVES:
        raise UnreadableFileError(name, "holds an archive within the archive", "Send the file itself")
    if members[0].flag_bits & 1:
        raise UnreadableFileError(name, "is encrypted", "Send it without a password")
    return members[0]


def _bounded(unpacked: BinaryIO | Any, name: str, limit: int, packed: BinaryIO) -> bytes:
    """What is unpacked, refused as soon as it is too much, or too much for what has been read of the packed bytes."""
    content = io.BytesIO()
    while chunk := unpacked.read(CHUNK):
        content.write(chunk)
        size = content.tell()
        if size > limit:
            raise _too_many_bytes(name, limit)
        if size > RATIO_FROM and size > MAX_RATIO * packed.tell():
            raise UnreadableFileError(
                name, f"grows more than {MAX_RATIO} times when it is decompressed", "Send it with less compression"
            )
    return content.getvalue()


def _refuse_bad_text(content: bytes, name: str, limits: FileSource) -> None:
    if (at := content.find(b"\0")) >= 0:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        what = "is UTF-16" if wide else f"holds a NUL byte in line {_line(content, at)}"
        raise UnreadableFileError(name, what, "Save it as UTF-8 text")
    if not content.isascii() and not _is_utf8(content):
        try:
            content.decode()
        except UnicodeDecodeError as error:
            line = _line(content, error.start)
            raise UnreadableFileError(name, f"is not UTF-8 in line {line}", "Save it as UTF-8 text") from error
    if content.count(b"\n") > limits.max_rows + 1:
        raise too_many_rows(name, content.count(b"\n"), limits)


def _is_utf8(content: bytes) -> bool:
    """Whether `content` is UTF-8, found out without a second copy of it."""
    import pyarrow as pa

    ends = pa.array([0, len(content)], pa.int64()).buffers()[1]
    try:
        pa.LargeStringArray.from_buffers(1, ends, pa.py_buffer(content)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _line(content: bytes, position: int) -> int:
    return content.count(b"\n", 0, position) + 1


def _too_many_bytes(name: str, limit: int) -> UnreadableFileError:
    return UnreadableFileError(name, f"holds more than {limit} bytes", "Split it, or raise source.max_bytes")


def too_many_rows(name: str, rows: int, limits: FileSource) -> UnreadableFileError:
    """The refusal of a file with more rows than declared."""
    reason = f"holds {rows} rows; source.max_rows is {limits.max_rows}"
    return UnreadableFileError(name, reason, "Split it, or raise the limit")
