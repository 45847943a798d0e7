"""A model goes to a stand-in of the Hugging Face hub, which speaks its protocol, and comes back the same."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
import yaml

from espnet2_kd.asr.pack_writer import write_pack
from espnet2_kd.bin.upload_model import main

NAME = "valid.loss_transducer.ave.pth"
TOKEN = "hf_of_the_test"
SAMPLES = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
CARD = """---
library_name: espnet
---
# m

    model = from_pretrained("m.zip")
    python -m espnet2_kd.bin.stream --exp m.zip speech.wav
"""


class Hub:
    """Models by name, with their files and whether they are private; large files by their hash."""

    def __init__(self):
        self.files, self.private, self.large, self.asked, self.messages = {}, {}, {}, [], []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def handle_any(self):
                length = int(self.headers.get("Content-Length") or 0)
                chunks = []
                if self.headers.get("Transfer-Encoding") == "chunked":
                    while size := int(self.rfile.readline(), 16):
                        chunks.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                body = b"".join(chunks) or self.rfile.read(length)
                path = unquote(urlsplit(self.path).path)
                hub.asked.append(f"{self.command} {path}")
                member = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, headers, answer = hub.answer(self.command, path, body, member)
                if isinstance(answer, (dict, list)):
                    answer, headers = json.dumps(answer).encode(), {"Content-Type": "application/json", **headers}
                self.send_response(status)
                for name, value in {"Content-Length": str(len(answer)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def commit_of(self, repo):
        return hashlib.sha1(json.dumps(sorted(self.files[repo])).encode()).hexdigest()

    def answer(self, method, path, body, member):
        if method == "PUT" and path.startswith("/large/"):
            oid = path.rpartition("/")[2]
            if hashlib.sha256(body).hexdigest() != oid:
                return 400, {}, {"error": "not what was promised"}
            self.large[oid] = body
            return 200, {}, b""
        if method == "POST" and not member:
            return 401, {}, {"error": "Invalid credentials in Authorization header"}
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            if asked["organization"] != "me":
                return 403, {}, {"error": f"You don't have the rights to create a model under the namespace {repo}"}
            if repo in self.files:
                return 409, {}, {"error": "You already created this model repo", "url": f"{self.url}/{repo}"}
            self.files[repo], self.private[repo] = {}, asked.get("visibility") == "private"
            return 200, {}, {"url": f"{self.url}/{repo}", "name": repo}
        if path == "/api/validate-yaml":
            header = json.loads(body)["content"].split("---")[1]
            errors = [] if isinstance(yaml.safe_load(header), dict) else [{"message": "no header"}]
            return 200, {}, {"errors": errors, "warnings": []}
        api, repo, rest = self.split(path)
        if repo not in self.files or (self.private[repo] and not member):
            return 404 if member else 401, {"X-Error-Code": "RepoNotFound"}, {"error": "Repository not found"}
        return (self.of_api if api else self.of_files)(method, repo, rest, body)

    @staticmethod
    def split(path):
        api = path.startswith("/api/models/")
        words = path.removeprefix("/api/models").strip("/").split("/")
        return api, "/".join(words[:2]).removesuffix(".git"), words[2:]

    def of_api(self, method, repo, rest, body):
        files, commit = self.files[repo], self.commit_of(repo)
        if rest[:1] == ["preupload"]:
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith((".pth", ".npz")) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            return 200, {}, {"files": modes}
        if rest[:1] == ["commit"]:
            for line in body.splitlines():
                key, value = (json.loads(line)[name] for name in ("key", "value"))
                if key == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif key == "lfsFile":
                    files[value["path"]] = self.large[value["oid"]]
                else:
                    self.messages.append(value["summary"])
            return 200, {}, {"commitUrl": f"{self.url}/{repo}/commit/{commit}", "commitOid": self.commit_of(repo)}
        if rest[:1] == ["tree"]:
            listed = [{"type": "file", "path": name, "size": len(x), "oid": git_oid(x)} for name, x in files.items()]
            return 200, {}, listed
        if not rest or rest[0] == "revision":
            if rest[1:] not in ([], ["main"], [commit]):
                return 404, {"X-Error-Code": "RevisionNotFound"}, {"error": "Revision not found"}
            siblings = [{"rfilename": name} for name in files]
            return 200, {}, {"_id": "0", "id": repo, "modelId": repo, "sha": commit, "siblings": siblings, "tags": []}
        return 404, {}, {"error": f"{rest}"}

    def of_files(self, method, repo, rest, body):
        if rest == ["info", "lfs", "objects", "batch"]:
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.url}/large/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return 200, {"Content-Type": "application/vnd.git-lfs+json"}, {"transfer": "basic", "objects": objects}
        if rest[:1] == ["resolve"] and "/".join(rest[2:]) in self.files[repo]:
            content = self.files[repo]["/".join(rest[2:])]
            return 200, {"ETag": f'"{git_oid(content)}"', "X-Repo-Commit": self.commit_of(repo)}, content
        return 404, {"X-Error-Code": "EntryNotFound"}, {"error": "Entry not found"}


def git_oid(content):
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@pytest.fixture(scope="module")
def hub():
    hub = Hub()
    yield hub
    hub.server.shutdown()


@pytest.fixture(scope="module")
def made(tiny_experiment):
    return tiny_experiment("asr_to_share")


@pytest.fixture
def pack(made, tmp_path, monkeypatch):
    """m.zip, of a copy of the experiment below the working directory."""
    for name in (f"exp/{made.name}", "exp/asr_stats"):
        shutil.copytree(made.parents[1] / name, tmp_path / "recipe" / name)
    monkeypatch.chdir(tmp_path / "recipe")
    exp = tmp_path / "recipe/exp" / made.name
    stats = tmp_path / "recipe/exp/asr_stats/train/feats_stats.npz"
    files = {"asr_model_file": exp / NAME}, {"asr_train_config": exp / "config.yaml"}
    write_pack(tmp_path / "m.zip", *files, [stats], texts={"README.md": CARD, "decode.yaml": "search: greedy\n"})
    return tmp_path / "m.zip"


def python(hub, tmp_path, *words, token=TOKEN, home="home"):
    """A program with a hub of its own, and no more of this user's than that."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    # Without Xet, a protocol of the hub's own storage, the client speaks that of Git LFS.
    env = {**kept, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / home), "HF_HUB_DISABLE_XET": "1"}
    if token:
        env["HF_TOKEN"] = token
    return subprocess.run([sys.executable, *words], env=env, cwd=tmp_path, capture_output=True, text=True)


def upload(hub, tmp_path, *options, repo="me/student", **more):
    return python(
        hub, tmp_path, "-m", "espnet2_kd.bin.upload_model", "--pack", "m.zip", "--repo", repo, *options, **more
    )


def test_there_and_back(hub, pack, made, tmp_path):
    """Values are equal, from the hub, then from its cache without it."""
    tried = upload(hub, tmp_path, "--dry_run")
    assert tried.returncode == 0 and "6 files would be uploaded; nothing was sent" in tried.stdout and not hub.asked
    sent = upload(hub, tmp_path, "--private", "true")
    assert sent.returncode == 0, sent.stderr
    assert sent.stdout == tried.stdout.replace(
        "me/student: 6 files would be uploaded; nothing was sent", f"{hub.url}/me/student: 6 files uploaded"
    )
    assert hub.private["me/student"] and hub.messages == ["Model, configuration and card"]
    with zipfile.ZipFile(pack) as bundle:
        packed = {name: bundle.read(name) for name in bundle.namelist()}
    there = hub.files["me/student"]
    card = there.pop("README.md").decode()
    assert there == {name: packed[name] for name in packed if name != "README.md"}
    assert card == CARD.replace("m.zip", "me/student")
    there["README.md"] = card.encode()
    code = (
        "import sys, numpy as np, torch; from espnet2_kd import from_pretrained\n"
        "model = from_pretrained(sys.argv[1]); x = np.load('x.npy'); print(model(x))\n"
        "np.savez('out.npz', *[v.numpy() for v in model.model.state_dict().values()])\n"
    )
    np.save(tmp_path / "x.npy", SAMPLES)
    from espnet2_kd import from_pretrained

    expected = from_pretrained(made)
    for offline in (False, True):
        if offline:
            code = "import os; os.environ['HF_HUB_OFFLINE'] = '1'\n" + code
        back = python(hub, tmp_path, "-c", code, "me/student")
        assert back.returncode == 0, back.stderr
        said = back.stdout.splitlines()[-1]
        assert said == expected(SAMPLES) and len(said) > 3
    with np.load(tmp_path / "out.npz") as found:
        for name, value in zip(found, expected.model.state_dict().values(), strict=True):
            np.testing.assert_array_equal(found[name], value.numpy())
    refused = python(hub, tmp_path, "-c", code.replace("'1'", "'0'"), "me/student", token=None, home="elsewhere")
    assert f"{hub.url} has no such model, or it is private: correct the name, or set HF_TOKEN" in refused.stderr
    # Sent again, it takes the place of what is there.
    assert upload(hub, tmp_path).returncode == 0


def test_whoever_may_not_is_told(hub, pack, tmp_path):
    for options, words in (
        ({"token": None}, "no token for http://127.0.0.1"),
        ({"token": "hf_wrong"}, "the token was not accepted, or may not write there"),
        ({"repo": "others/student"}, "may not write there (You don't have the rights"),
    ):
        refused = upload(hub, tmp_path, **{"repo": "me/other", **options})
        assert refused.returncode == 1 and words in refused.stderr and "Traceback" not in refused.stderr
        assert len(refused.stderr.strip().splitlines()) == 1
    assert "me/other" not in hub.files and "others/student" not in hub.files
    closed = Hub()
    closed.server.shutdown()
    closed.server.server_close()
    refused = upload(closed, tmp_path)
    assert refused.returncode == 1 and f"me/student: {closed.url} cannot be reached" in refused.stderr


def altered(pack, members):
    with zipfile.ZipFile(pack) as bundle:
        kept = {name: bundle.read(name) for name in bundle.namelist()}
    with zipfile.ZipFile(pack, "w") as bundle:
        for name, content in {**kept, **members}.items():
            if content is not None:
                bundle.writestr(name, content)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"notes.txt": b"see /home/me/exp\n"}, ["  notes.txt: line 1: '/home/me/exp' is a place on this machine"]),
        ({"more.yaml": b"a: {b: /scratch/me}\n"}, ["  more.yaml: a.b: '/scratch/me' is a place on this machine"]),
        ({"more.yaml": b"a: [\n"}, ["  more.yaml: "]),
        ({"README.md": None}, ["has no README.md: pack the model again"]),
        ({"meta.yaml": None}, ["no meta.yaml"]),
        ({"../evil": b""}, ["nothing was unpacked"]),
        ({"a.txt": b"/x/y\n", "b.md": b"~me/z\n"}, ["  a.txt: line 1", "  b.md: line 1"]),
    ],
)
def test_what_is_not_for_others_stays_here(pack, members, words, capsys):
    altered(pack, members)
    assert main(["--pack", str(pack), "--repo", "me/student", "--dry_run"]) == 1
    error = capsys.readouterr().err
    assert str(pack) in error and all(word in error for word in words)


def test_the_path_of_the_recipe_in_a_file_of_numbers(pack, tmp_path, capsys):
    altered(pack, {"exp/stats.npz": b"\x00" + str(tmp_path / "recipe").encode() + b"\x00"})
    assert main(["--pack", str(pack), "--repo", "me/student", "--dry_run", "true"]) == 1
    assert "  exp/stats.npz: holds the path" in capsys.readouterr().err


def test_options_that_cannot_be(tmp_path, capsys):
    assert main(["--pack", str(tmp_path / "none.zip"), "--repo", "me/student"]) == 1
    assert "none.zip: no such file: pack the model first" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--pack", "m.zip", "--repo", "student"])
    assert "--repo student: give user/name" in capsys.readouterr().err
