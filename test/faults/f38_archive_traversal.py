"""F38: a model's archive leads out of its folder, or is a bomb."""

import io
import re
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from finding import Finding
from recipe import STUDENT, Recipe

from espnet2_kd.asr.model_pack import PackError, open_pack

STAGE = "6 decode"


def hostile(folder: Path) -> dict[str, Path]:
    """Archives by what their refusal says."""
    paths = {}
    with zipfile.ZipFile(folder / "up.zip", "w") as bundle:
        bundle.writestr("meta.yaml", "{}")
        bundle.writestr("../../escaped", "x")
    paths[r"'../../escaped' leads outside the target directory: nothing was unpacked"] = folder / "up.zip"
    with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        for number in range(10_001):
            bundle.writestr(f"{number}", "")
    paths["more than 10000 files"] = folder / "bomb.zip"
    for name, kind, target, words in (
        ("link", tarfile.SYMTYPE, "/etc/passwd", "is a link or a device"),
        ("hard", tarfile.LNKTYPE, "../../escaped", "is a link or a device"),
        ("device", tarfile.CHRTYPE, "", "is a link or a device"),
        ("/escaped", tarfile.REGTYPE, "", "leads outside the target directory"),
    ):
        path = folder / f"{name.strip('/')}.tar.gz"
        with tarfile.open(path, "w:gz") as bundle:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            bundle.addfile(member, io.BytesIO())
        paths[rf"{path.name}: '{name}' {words}"] = path
    bomb = folder / "size.zip"
    with zipfile.ZipFile(bomb, "w") as bundle:
        for number in range(6):
            bundle.writestr(f"{number}", "")
    # The directory at the end promises 4 GB for each, as that of a real bomb would.
    content = bytearray(bomb.read_bytes())
    for found in re.finditer(rb"PK\x01\x02", content):
        struct.pack_into("<L", content, found.start() + 24, 0xFFFFFFF0)
    bomb.write_bytes(content)
    paths["or 21474836480 bytes: nothing was unpacked"] = bomb
    return paths


def check(recipe: Recipe) -> Finding:
    (recipe.path / "in/deep").mkdir(parents=True)
    options = ("--data_dir", "dump/raw/test", "--output_dir", "exp/decoded")
    archives = hostile(recipe.path / "in/deep")
    for pattern, path in archives.items():
        with pytest.raises(PackError, match=pattern):
            open_pack(path)
    pattern, path = next(iter(archives.items()))
    refused = recipe.module("decode", "--exp", str(path.relative_to(recipe.path)), *options)
    assert refused.status == 1, refused.output[-3000:]
    message = refused.line(pattern)
    assert sorted(path.name for path in recipe.path.rglob("escaped")) == []
    assert not Path("/escaped").exists()
    assert not [path for path in (recipe.path / "in/deep").rglob("*") if not path.is_dir() and ".unpacked" in str(path)]
    (good,) = (recipe.path / STUDENT).glob("*.zip")
    again = recipe.module("decode", "--exp", str(good.relative_to(recipe.path)), *options)
    assert again.status == 0, again.output[-3000:]
    return Finding("6 decode", 1, message, "nothing is unpacked", f"{again.seconds:.0f} s: a good archive is read")
