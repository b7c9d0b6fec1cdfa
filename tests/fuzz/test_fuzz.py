"""Whatever bytes come from outside, the answer is an answer or an error for people; `make fuzz` tries many more."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import BREAK, MODEL, TARGETS, arrays, attempt, splits

NUMBERS = [
    number.to_bytes(width, order)
    for width in (1, 2, 4, 8)
    for order in ("little", "big")
    for number in (0, 1, 127, 2 ** (8 * width - 1), 2 ** (8 * width) - 1)
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed, changed in a few places: bytes written over others, put between, or left out."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        part = st.sampled_from(seeds).map(lambda seed, start=start: seed[start:])  # type: ignore[misc]
        new = draw(st.binary(max_size=4) | st.sampled_from(NUMBERS) | part)
        gone = draw(st.sampled_from([len(new), 0, 1, len(data)]))
        data = data[:start] + new + data[start + gone :]
    return data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_changed_bytes_end_in_an_answer_or_an_error_for_people(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())
    assert attempt(target, seeds[0], tmp_path) == (name != "matlab"), "no mutation of what is refused goes deep"

    @settings(max_examples=100, deadline=10_000, suppress_health_check=list(HealthCheck), database=None)
    @given(mutated(seeds) | st.binary(max_size=200))
    def check(data: bytes) -> None:
        attempt(target, data, tmp_path)

    check()


def an_archive(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"")
    return content.getvalue()


def model(**changes: object) -> bytes:
    return json.dumps(MODEL | changes).encode()


def split(rows: bytes) -> bytes:
    return b"id,label,offset,height,width\n" + rows + BREAK + splits()[0].partition(BREAK)[2]


TABLES, TOO_LONG = b"label,name\n0,rose\n%%%member,id,split,label\n", 2**64
ALIASES = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefgh"
)
# What once was a traceback, a hang, text that a terminal obeys, or data that nobody meant.
FOUND = [
    ("folder", an_archive("name").replace(b"name", b"\0ame")),  # which is no name
    ("index", b"\0"),
    ("index", b"\x1b[2J,name\n"),
    ("index", TABLES + b'"a\nb",1,train,0\n"a\nb",1,train,0\n'),
    ("index", TABLES + b"a,%d,train,0\n" % TOO_LONG),
    ("params", b"threads: 2001-99-99"),
    ("params", b"threads: " + b"9" * 5000),
    ("params", b"threads: 0x" + b"f" * 5000),
    ("params", b"threads: " + b"[" * 2000 + b"]" * 2000),
    ("params", ALIASES + b"threads: *h"),
    ("model", b"{"),
    ("model", model(transforms={})),
    ("model", model(classes=[1, 2, 3])),
    ("model", model(classes={"a": 1, "b": 2, "c": 3})),
    ("model", model(transforms=MODEL["transforms"] | {"resize": 10**6})),
    ("pixels", b""),
    ("pixels", split(b"7,0,-1,4,5\n9,1,60,6,4\n")),
    ("pixels", split(b"7,0,0,-4,-5\n9,1,60,6,4\n")),
    ("features", b""),
    ("features", an_archive("x")),
    ("features", arrays()[0].replace(b"<f4", b"<U1")),
    ("features", arrays()[0].replace(b"False", b"True ")),
    ("lock", b""),
    ("lock", b"stages: {train@gone: {outs: [{path: .}]}}"),
    ("lock", b"stages: {1: {outs: []}}"),
]


@pytest.mark.parametrize(("name", "data"), FOUND, ids=[f"{name}{place}" for place, (name, _) in enumerate(FOUND)])
def test_what_was_found_is_refused(name: str, data: bytes, tmp_path: Path) -> None:
    assert not attempt(TARGETS[name], data, tmp_path)
