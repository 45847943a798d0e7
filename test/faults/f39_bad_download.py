"""F39: a download is cut off, or altered."""

import hashlib
import http.server
import threading
import time

import pytest
from finding import Finding
from recipe import Recipe

STAGE = "1 data"
CONTENT = bytes(range(256)) * 4096


class Server(http.server.BaseHTTPRequestHandler):
    """Serves the file whole, cut or altered, by its name."""

    def do_GET(self) -> None:
        content = CONTENT
        if "altered" in self.path:
            content = CONTENT[:-1] + b"!"
        begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        rest = content[begin:]
        self.wfile.write(rest[: len(rest) // 2] if "cut" in self.path else rest)

    def log_message(self, *args: object) -> None:
        pass


def check(recipe: Recipe) -> Finding:
    from espnet2_kd.data.download import DownloadError, RemoteFile, download

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder, sha256 = recipe.path / "downloads/net", hashlib.sha256(CONTENT).hexdigest()

    def fetch(name: str):
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        return download(RemoteFile((url,), "corpus.tar.gz", sha256, len(CONTENT)), folder)

    try:
        with pytest.raises(DownloadError, match=r"the connection ended after \d+ of \d+ bytes") as cut:
            fetch("cut")
        kept = (folder / "corpus.tar.gz.part").stat().st_size
        assert 0 < kept < len(CONTENT) and not (folder / "corpus.tar.gz").exists()
        began = time.monotonic()
        assert fetch("whole").read_bytes() == CONTENT
        seconds = time.monotonic() - began
        (folder / "corpus.tar.gz").unlink()
        with pytest.raises(DownloadError, match="SHA-256 .* instead of .*: removed") as altered:
            fetch("altered")
        assert list(folder.iterdir()) == []
        assert "put it at" in str(cut.value) and "put it at" in str(altered.value)
        (folder / "corpus.tar.gz").write_bytes(CONTENT[:-1] + b"!")
        with pytest.raises(DownloadError, match="remove the file to fetch it again"):
            fetch("whole")
    finally:
        server.shutdown()
    message = str(altered.value).splitlines()[1].strip()
    return Finding(
        "1 data", 1, message, "nothing", f"{seconds:.1f} s: the rest of the file ({len(CONTENT) - kept} bytes)"
    )
