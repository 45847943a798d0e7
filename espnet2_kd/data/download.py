"""Fetch a corpus archive, verify it and unpack it, without ever leaving a half-made directory or writing outside it."""

import gzip
import hashlib
import http.client
import lzma
import os
import stat
import struct
import tarfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from espnet2_kd.data.progress import Progress
from espnet2_kd.data.scratch import scratch_folder

CHUNK_BYTES = 1 << 20


# What readers of archives raise, and what comes out of them of bytes that they do not look at closely.
DAMAGE = (
    *(tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, LookupError, MemoryError, OverflowError, ValueError, struct.error),
)


class DownloadError(RuntimeError):
    """A file could not be fetched or is not what was promised; the message names the remedy."""


class UnsafeArchiveError(DownloadError):
    """An archive holds something that must not be unpacked."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on the net: mirrors in order of preference, and what is known of its content.

    An MD5 tells damage, but not a file that somebody made to match it: for corpora of which nothing better is known.
    """

    urls: Sequence[str]
    name: str
    sha256: str | None = None
    size: int | None = None
    md5: str | None = None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return _hex_digest(path, "sha256")


def _hex_digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _verify(path: Path, remote: RemoteFile) -> None:
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        raise DownloadError(f"{path}: {size} bytes instead of {remote.size}")
    for name, algorithm, promised in (("SHA-256", "sha256", remote.sha256), ("MD5", "md5", remote.md5)):
        if promised is not None and (found := _hex_digest(path, algorithm)) != promised:
            raise DownloadError(f"{path}: {name} {found} instead of {promised}")


def _append(url: str, part: Path, timeout: float) -> None:
    """Continue `part` from where it ends; begin anew when the server cannot continue."""
    begin = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if begin and error.code == 416:
            return
        raise
    with response, part.open("ab" if response.status == 206 else "wb") as file:
        promised = response.headers.get("Content-Length")
        received = 0
        # A server that packs the archive while it sends does not know its size; 0 of 0 would be no progress to show.
        num_chunks = -(-int(promised) // CHUNK_BYTES) if promised else None
        with Progress(f"download {part.stem}", num_chunks, unit="MiB") if num_chunks else nullcontext() as progress:
            while chunk := response.read(CHUNK_BYTES):
                file.write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress.step(-(-received // CHUNK_BYTES) - progress.done)
        if promised is not None and received != int(promised):
            raise DownloadError(f"{url}: the connection ended after {received} of {promised} bytes")


def download(remote: RemoteFile, directory: Path, timeout: float = 60.0) -> Path:
    """Return the path of a verified copy of `remote` in `directory`, fetching it when it is not there.

    The data go to `<name>.part`, which a later call continues; a part that turns out to be wrong is removed.
    Raises `DownloadError` listing what happened with every mirror.
    """
    target, part = directory / remote.name, directory / f"{remote.name}.part"
    if target.exists():
        try:
            _verify(target, remote)
            return target
        except DownloadError as error:
            raise DownloadError(f"{error}: remove the file to fetch it again") from error
    directory.mkdir(parents=True, exist_ok=True)
    problems = []
    for url in remote.urls:
        try:
            _append(url, part, timeout)
        except (OSError, http.client.HTTPException, DownloadError) as error:
            problems.append(f"{url}: {error}")
            continue
        try:
            _verify(part, remote)
        except DownloadError as error:
            problems.append(f"{url}: {error}: removed")
            part.unlink()
            continue
        os.replace(part, target)
        return target
    tried = "\n  ".join(problems)
    raise DownloadError(
        f"{remote.name}: cannot be downloaded:\n  {tried}\nGet the file yourself and put it at {target}"
    )


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    is_dir: bool
    is_file: bool
    handle: tarfile.TarInfo | zipfile.ZipInfo


@contextmanager
def _opened(archive: Path) -> Iterator[tarfile.TarFile | zipfile.ZipFile]:
    # By its first bytes: `is_zipfile` looks at the last, and finds a zip that is only a member, as PyTorch's files are.
    with archive.open("rb") as file:
        is_zip = file.read(2) == b"PK"
    if is_zip:
        with zipfile.ZipFile(archive) as bundle:
            if min((entry.header_offset for entry in bundle.infolist()), default=0) != 0:
                raise zipfile.BadZipFile("cut off")
            yield bundle
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as bundle:
            yield bundle
    else:
        raise UnsafeArchiveError(f"{archive}: neither a tar nor a zip archive: remove the file and fetch it again")


def _members(bundle: tarfile.TarFile | zipfile.ZipFile) -> Iterator[_Member]:
    if isinstance(bundle, tarfile.TarFile):
        for info in bundle:
            yield _Member(info.name, info.size, info.isdir(), info.isreg(), info)
        return
    for entry in bundle.infolist():
        kind = stat.S_IFMT(entry.external_attr >> 16)
        is_dir = entry.filename.endswith("/")  # `entry.is_dir()` wants a name of one letter at least
        regular = not is_dir and kind in (0, stat.S_IFREG)
        yield _Member(entry.filename, entry.file_size, is_dir, regular, entry)


def _problem(member: _Member) -> str | None:
    if not member.name:
        return "has no name"
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        return "leads outside the target directory"
    if not member.is_dir and not member.is_file:
        return "is a link or a device"
    return None


def _copy(source: IO[bytes], path: Path, num_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        while num_bytes > 0 and (chunk := source.read(min(CHUNK_BYTES, num_bytes))):
            file.write(chunk)
            num_bytes -= len(chunk)
    if num_bytes:
        raise UnsafeArchiveError(f"{path.name}: shorter than the archive says: remove the archive and fetch it again")


def unpack(archive: Path, directory: Path, max_bytes: int, max_files: int) -> Path:
    """Unpack a tar or zip archive into `directory`, which must not exist, and return it.

    Only directories and plain files with paths below `directory` are accepted: one bad member and nothing is unpacked.
    `max_bytes` and `max_files` limit what the archive may become. The files appear under a temporary name first.
    Raises `UnsafeArchiveError`, or another `DownloadError` when `directory` is there already.
    """
    if directory.exists():
        raise DownloadError(f"{directory}: exists already: remove it to unpack {archive.name} again")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(directory) as temporary:
        try:
            with _opened(archive) as bundle:
                _unpack_into(bundle, archive, temporary / "content", max_bytes, max_files)
        except DAMAGE as error:
            raise UnsafeArchiveError(f"{archive}: damaged ({error}): remove the file and fetch it again") from error
        os.replace(temporary / "content", directory)
    return directory


def _unpack_into(
    bundle: tarfile.TarFile | zipfile.ZipFile, archive: Path, target: Path, max_bytes: int, max_files: int
) -> None:
    members, names, num_bytes = [], set(), 0
    for member in _members(bundle):
        problem = "is in it twice" if member.is_file and member.name in names else _problem(member)
        if problem:
            raise UnsafeArchiveError(
                f"{archive}: {member.name!r} {problem}: nothing was unpacked, do not use this file"
            )
        members.append(member)
        names.add(member.name)
        num_bytes += member.size
        if len(members) > max_files or num_bytes > max_bytes:
            raise UnsafeArchiveError(
                f"{archive}: more than {max_files} files or {max_bytes} bytes: nothing was unpacked"
            )
    target.mkdir()
    for member in members:
        path = target / member.name
        if member.is_dir:
            path.mkdir(parents=True, exist_ok=True)
            continue
        with _source(bundle, member, archive) as source:
            _copy(source, path, member.size)


def _source(bundle: tarfile.TarFile | zipfile.ZipFile, member: _Member, archive: Path) -> IO[bytes]:
    if isinstance(bundle, tarfile.TarFile):
        return bundle.extractfile(member.handle)
    try:
        return bundle.open(member.handle)
    except RuntimeError as error:  # a password is wanted, or (NotImplementedError) a compression that nobody knows
        raise UnsafeArchiveError(
            f"{archive}: {member.name!r} cannot be read ({error}): nothing was unpacked, make the archive without "
            "encryption, stored or deflated"
        ) from error
