"""Files as users, editors, half-finished copies and enemies make them of good ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st

# What has upset readers of text files before.
NASTY = (
    *(
        b"\x00",
        b"\xff",
        b"\xc3",
        b"\xef\xbb\xbf",
        b"\r\n",
        b"\r",
        b"\n\n",
        b"\t",
        b"  ",
        b" \n",
        b"\x0b",
        b"\x1c",
        b"\x85",
    ),
    *(
        "\u00a0".encode(),
        "\u2028".encode(),
        "\u3000".encode(),
        "\u200b".encode(),
        "e\u0301".encode(),
        "\U0001f600".encode(),
    ),
    *(
        b"nan",
        b"-inf",
        b"1e999",
        b"-1",
        b"0",
        b"1_0",
        b"99999999999999999999",
        b"0x10",
        b"\xd9\xa3",
        b"4294967295",
        b"1e-320",
    ),
    *(
        b"..",
        b"../../etc/passwd",
        b"/",
        b"|",
        b"cat x |",
        b"x.ark:7",
        b"x.ark:99999999999999999999",
        b"~",
        b"#0",
        b"<s>",
        b"-",
    ),
    *(b"'", b'"', b"`", b"$(x)", b"%s", b"%n", b"{}", b"()", b"@", b"*", b"\\", b";", b"x" * 300, b"a " * 3000),
    *(
        b"null",
        b"[]",
        b"true",
        b"{",
        b"]",
        b":",
        b": ",
        b"- ",
        b"&a ",
        b"*a",
        b"!!python/object/apply:os.system [x]",
        b"<<: ",
    ),
)
_bits = st.sampled_from(NASTY) | st.binary(max_size=8)


@st.composite
def mutated(draw: st.DrawFn, good: Sequence[bytes]) -> bytes:
    """One of the good contents, a few times changed; sometimes nothing like it."""
    if draw(st.integers(0, 19)) == 0:
        return draw(st.binary(max_size=200) | _bits)
    data = draw(st.sampled_from(list(good)))
    for _ in range(draw(st.integers(0, 3))):
        data = draw(st.sampled_from(_CHANGES))(draw, data)
    return data


@st.composite
def files(draw: st.DrawFn, good: Mapping[str, bytes]) -> dict[str, bytes]:
    """Some of a set of good files changed, one perhaps missing."""
    names = sorted(good)
    chosen = draw(st.sets(st.sampled_from(names), max_size=3))
    content = {name: draw(mutated([good[name]])) if name in chosen else good[name] for name in names}
    if draw(st.integers(0, 9)) == 0:
        del content[draw(st.sampled_from(names))]
    return content


def _place(draw: st.DrawFn, data: bytes) -> tuple[int, int]:
    start = draw(st.integers(0, len(data)))
    return start, min(len(data), start + draw(st.integers(0, 12)))


def _overwrite(draw: st.DrawFn, data: bytes) -> bytes:
    start, end = _place(draw, data)
    return data[:start] + draw(_bits) + data[end:]


def _insert(draw: st.DrawFn, data: bytes) -> bytes:
    start, _ = _place(draw, data)
    return data[:start] + draw(_bits) + data[start:]


def _cut_off(draw: st.DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def _double(draw: st.DrawFn, data: bytes) -> bytes:
    start, end = _place(draw, data)
    return data[:end] + data[start:end] * draw(st.integers(1, 40)) + data[end:]


def _drop_line(draw: st.DrawFn, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        del lines[draw(st.integers(0, len(lines) - 1))]
    return b"".join(lines)


def _move_line(draw: st.DrawFn, data: bytes) -> bytes:
    """Also: repeat it."""
    lines = data.splitlines(keepends=True)
    if lines:
        line = lines[draw(st.integers(0, len(lines) - 1))]
        lines.insert(draw(st.integers(0, len(lines))), line)
    return b"".join(lines)


def _change_word(draw: st.DrawFn, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    if not lines:
        return data
    at = draw(st.integers(0, len(lines) - 1))
    words = lines[at].split(b" ")
    words[draw(st.integers(0, len(words) - 1))] = draw(_bits)
    lines[at] = b" ".join(words)
    return b"".join(lines)


def _flip_byte(draw: st.DrawFn, data: bytes) -> bytes:
    if not data:
        return data
    at = draw(st.integers(0, len(data) - 1))
    return data[:at] + bytes([draw(st.integers(0, 255))]) + data[at + 1 :]


_CHANGES = (_overwrite, _insert, _cut_off, _double, _drop_line, _move_line, _change_word, _flip_byte)
