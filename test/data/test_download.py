"""Downloads against a server on this machine, and archives that must not be unpacked (faults F38 and F39)."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from espnet2_kd.data.download import DownloadError, RemoteFile, UnsafeArchiveError, download, unpack

CONTENT = bytes(range(256)) * 9000
DIGEST, NUM_BYTES = hashlib.sha256(CONTENT).hexdigest(), len(CONTENT)


class Handler(SimpleHTTPRequestHandler):
    """Serves files, ranges of them, and on request breaks off in the middle."""

    cut_after = None
    requests: ClassVar[list] = []

    def do_GET(self):
        body = (
            Path(self.translate_path(self.path)).read_bytes() if Path(self.translate_path(self.path)).exists() else None
        )
        if body is None:
            self.send_error(404)
            return
        wanted = self.headers.get("Range")
        Handler.requests.append((self.path, wanted))
        if "chunked" in self.path:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n" % len(body) + body[: len(body) // 2])
            return
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and "no-range" not in self.path else 0
        if begin >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body) - begin))
        self.end_headers()
        self.wfile.write(body[begin : None if Handler.cut_after is None else begin + Handler.cut_after])

    def log_message(self, *args):
        pass


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "www"
    root.mkdir()
    for name in ("corpus.bin", "no-range.bin", "chunked.bin"):
        (root / name).write_bytes(CONTENT)
    Handler.cut_after, Handler.requests = None, []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=root)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def remote(*urls, sha256=DIGEST, size=NUM_BYTES, md5=None):
    return RemoteFile(urls, "corpus.bin", sha256, size, md5)


def test_download_takes_the_second_mirror_and_fetches_once(server, tmp_path):
    file = remote(f"{server}/absent.bin", f"{server}/corpus.bin", md5=hashlib.md5(CONTENT).hexdigest())
    assert download(file, tmp_path / "d").read_bytes() == CONTENT
    assert sorted(os.listdir(tmp_path / "d")) == ["corpus.bin"]
    assert download(file, tmp_path / "d").read_bytes() == CONTENT
    assert len(Handler.requests) == 1


@pytest.mark.parametrize("name", ["corpus.bin", "no-range.bin"])
def test_interrupted_download_is_continued(server, tmp_path, name):
    Handler.cut_after = 1_000_000
    with pytest.raises(DownloadError, match="ended after 1000000 of 2304000 bytes"):
        download(remote(f"{server}/{name}"), tmp_path / "d")
    assert (tmp_path / "d" / "corpus.bin.part").stat().st_size == 1_000_000
    assert not (tmp_path / "d" / "corpus.bin").exists()
    Handler.cut_after = None
    assert download(remote(f"{server}/{name}"), tmp_path / "d").read_bytes() == CONTENT
    assert Handler.requests[-1][1] == "bytes=1000000-"


def test_cut_off_transfer_of_unknown_length(server, tmp_path):
    with pytest.raises(DownloadError, match="IncompleteRead"):
        download(remote(f"{server}/chunked.bin", sha256=None, size=None), tmp_path / "d")
    assert not (tmp_path / "d" / "corpus.bin").exists()
    assert download(remote(f"{server}/chunked.bin", f"{server}/corpus.bin"), tmp_path / "d").read_bytes() == CONTENT


def test_complete_part_is_accepted(server, tmp_path):
    (tmp_path / "corpus.bin.part").write_bytes(CONTENT)
    assert download(remote(f"{server}/corpus.bin"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, "SHA-256"),
        ({"size": 7}, "bytes instead of 7"),
        ({"md5": "0" * 32}, "MD5 .* instead of 0"),
    ],
)
def test_altered_download_leaves_nothing(server, tmp_path, known, message):
    with pytest.raises(DownloadError, match=message):
        download(remote(f"{server}/corpus.bin", **known), tmp_path / "d")
    assert os.listdir(tmp_path / "d") == []


def test_wrong_file_of_the_user_is_named_and_kept(server, tmp_path):
    (tmp_path / "corpus.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="4 bytes instead of 2304000: remove the file"):
        download(remote(f"{server}/corpus.bin"), tmp_path)
    assert (tmp_path / "corpus.bin").read_bytes() == b"mine"


def test_unreachable_server_tells_what_to_do(tmp_path):
    with pytest.raises(DownloadError, match="Get the file yourself and put it at"):
        download(remote("http://127.0.0.1:9/corpus.bin"), tmp_path)


def tar_of(path, *members):
    with tarfile.open(path, "w:gz") as archive:
        for name, kind, data in members:
            info = tarfile.TarInfo(name)
            info.type, info.size = kind, len(data) if kind == tarfile.REGTYPE else 0
            info.linkname = "" if kind == tarfile.REGTYPE else "/etc/passwd"
            archive.addfile(info, io.BytesIO(data))
    return path


def zip_of(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, mode, data in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def everything_below(directory):
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


LIMITS = {"max_bytes": 10_000, "max_files": 10}


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_unpack_good_archive(tmp_path, kind):
    files = {"corpus/a.txt": b"one", "corpus/deep/b.txt": b"two" * 1000, "corpus/empty": b""}
    if kind == "tar":
        archive = tar_of(
            tmp_path / "a", ("corpus", tarfile.DIRTYPE, b""), *((n, tarfile.REGTYPE, d) for n, d in files.items())
        )
    else:
        archive = zip_of(tmp_path / "a", *((name, stat.S_IFREG | 0o644, data) for name, data in files.items()))
    unpack(archive, tmp_path / "x" / "out", **LIMITS)
    assert {name: (tmp_path / "x" / "out" / name).read_bytes() for name in files} == files
    assert os.listdir(tmp_path / "x") == ["out"]
    with pytest.raises(DownloadError, match="remove it"):
        unpack(archive, tmp_path / "x" / "out", **LIMITS)


GOOD = ("good.txt", tarfile.REGTYPE, b"good")
BAD_TARS = {
    "parent": ("../evil.txt", tarfile.REGTYPE, b"x"),
    "hidden parent": ("a/../../evil.txt", tarfile.REGTYPE, b"x"),
    "absolute": ("/evil.txt", tarfile.REGTYPE, b"x"),
    "backslash": ("..\\evil.txt", tarfile.REGTYPE, b"x"),
    "symbolic link": ("link", tarfile.SYMTYPE, b""),
    "hard link": ("link", tarfile.LNKTYPE, b""),
    "device": ("device", tarfile.CHRTYPE, b""),
    "pipe": ("pipe", tarfile.FIFOTYPE, b""),
    "twice": ("good.txt", tarfile.REGTYPE, b"other"),
}


@pytest.mark.parametrize("member", BAD_TARS.values(), ids=BAD_TARS.keys())
def test_bad_tar_member_unpacks_nothing(tmp_path, member):
    archive = tar_of(tmp_path / "a.tar.gz", GOOD, member)
    with pytest.raises(UnsafeArchiveError, match="nothing was unpacked"):
        unpack(archive, tmp_path / "out", **LIMITS)
    assert everything_below(tmp_path) == {"a.tar.gz"}


@pytest.mark.parametrize(("name", "mode"), [("../evil", stat.S_IFREG), ("link", stat.S_IFLNK), ("/evil", stat.S_IFREG)])
def test_bad_zip_member_unpacks_nothing(tmp_path, name, mode):
    archive = zip_of(tmp_path / "a.zip", ("good.txt", stat.S_IFREG, b"good"), (name, mode | 0o644, b"../../x"))
    with pytest.raises(UnsafeArchiveError, match="nothing was unpacked"):
        unpack(archive, tmp_path / "out", **LIMITS)
    assert everything_below(tmp_path) == {"a.zip"}


@pytest.mark.parametrize("limits", [{"max_bytes": 99, "max_files": 10}, {"max_bytes": 1000, "max_files": 1}])
def test_caps(tmp_path, limits):
    archive = tar_of(tmp_path / "a.tar.gz", ("a", tarfile.REGTYPE, b"0" * 50), ("b", tarfile.REGTYPE, b"0" * 50))
    with pytest.raises(UnsafeArchiveError, match="more than"):
        unpack(archive, tmp_path / "out", **limits)
    assert everything_below(tmp_path) == {"a.tar.gz"}
    unpack(archive, tmp_path / "out", max_bytes=100, max_files=2)


def test_truncated_and_altered_archives(tmp_path):
    whole = tar_of(tmp_path / "a.tar.gz", ("a", tarfile.REGTYPE, os.urandom(5000))).read_bytes()
    altered = bytearray(gzip.decompress(whole))
    altered[148:156] = b"9999999\0"
    for damaged in (whole[: len(whole) // 2], gzip.compress(bytes(altered)), b"not an archive"):
        (tmp_path / "bad.tar.gz").write_bytes(damaged)
        with pytest.raises(UnsafeArchiveError, match="remove the file and fetch it again"):
            unpack(tmp_path / "bad.tar.gz", tmp_path / "out", **LIMITS)
        assert everything_below(tmp_path) == {"a.tar.gz", "bad.tar.gz"}


def test_an_archive_with_a_zip_as_its_last_member(tmp_path):
    """It is what it begins as, even when cut off right after the inner archive."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as bundle:
        bundle.writestr("inside.txt", "x")
    with tarfile.open(tmp_path / "a.tar", "w") as bundle:
        info = tarfile.TarInfo("model.pth")
        info.size = len(inner.getvalue())
        bundle.addfile(info, io.BytesIO(inner.getvalue()))
    assert (unpack(tmp_path / "a.tar", tmp_path / "a", 10**6, 10) / "model.pth").read_bytes() == inner.getvalue()
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as bundle:
        bundle.writestr("model.pth", inner.getvalue())
    assert (unpack(tmp_path / "b.zip", tmp_path / "b", 10**6, 10) / "model.pth").read_bytes() == inner.getvalue()
    whole = (tmp_path / "b.zip").read_bytes()
    (tmp_path / "c.zip").write_bytes(whole[: whole.index(inner.getvalue()) + len(inner.getvalue())])
    with pytest.raises(UnsafeArchiveError, match="damaged"):
        unpack(tmp_path / "c.zip", tmp_path / "c", 10**6, 10)
    assert not (tmp_path / "c").exists()


def test_zip_whose_name_is_no_text(tmp_path):
    """Found by fuzzing: the name before the data says that it is UTF-8."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("modèle.pth", b"weights")
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[data.index("è".encode())] = 0x80
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match=r"a.zip: damaged \(.*can't decode"):
        unpack(tmp_path / "a.zip", tmp_path / "out", **LIMITS)


def test_zip_with_a_file_that_has_no_name(tmp_path):
    """Found by fuzzing."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr("x", b"weights")
    data = (tmp_path / "a.zip").read_bytes()
    for mark, place in ((b"PK\x03\x04", 26), (b"PK\x01\x02", 28)):
        start = data.index(mark)
        head = data[: start + place] + b"\0\0" + data[start + place + 2 :]
        name = head.index(b"x", start + 30)
        data = head[:name] + head[name + 1 :]
    end = data.index(b"PK\x05\x06")
    directory = data.index(b"PK\x01\x02")
    data = (
        data[: end + 12] + (end - directory).to_bytes(4, "little") + directory.to_bytes(4, "little") + data[end + 20 :]
    )
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match="'' has no name: nothing was unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out", **LIMITS)


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("flags", b"\x01\x00", r"'model.pth' cannot be read \(.*encrypted"),
        ("method", b"\x63\x00", r"'model.pth' cannot be read \(That compression method is not supported\)"),
        ("version", b"\xff\x00", "damaged"),
    ],
)
def test_zips_that_want_a_password_or_an_unknown_method(tmp_path, place, value, what):
    """Found by fuzzing: zipfile says so with errors of other kinds."""
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as bundle:
        bundle.writestr("model.pth", b"weights")
    data = bytearray(archive.read_bytes())
    # The headers of the member and of the directory at the end: bytes from their marks on.
    local, central = data.index(b"PK\x03\x04"), data.index(b"PK\x01\x02")
    for start, offset in ((local, 4), (central, 6)):
        at = start + offset + {"version": 0, "flags": 2, "method": 4}[place]
        data[at : at + 2] = value
    archive.write_bytes(data)
    with pytest.raises(UnsafeArchiveError, match=what):
        unpack(archive, tmp_path / "out", **LIMITS)
    assert everything_below(tmp_path) == {"a.zip"}
