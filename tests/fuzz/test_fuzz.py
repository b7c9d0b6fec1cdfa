"""Whatever bytes come from outside, the answer is an answer or an error for people.

`make fuzz` tries many more.
"""

import io
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import MODEL, TARGETS, attempt

NUMBERS = [
    number.to_bytes(width, order)
    for width in (1, 2, 4, 8)
    for order in ("little", "big")
    for number in (0, 1, 127, 2 ** (8 * width - 1), 2 ** (8 * width) - 1)
]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed, changed in a few places: bytes are replaced, inserted or left out."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        part_of_seed = st.builds(lambda seed, start=start: seed[start:], st.sampled_from(seeds))
        new = draw(st.binary(max_size=4) | st.sampled_from(NUMBERS) | part_of_seed)
        removed = draw(st.sampled_from([len(new), 0, 1, len(data)]))
        data = data[:start] + new + data[start + removed :]
    return data


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", TARGETS)
def test_changed_bytes_end_in_an_answer_or_an_error_for_people(name: str, tmp_path: Path) -> None:
    target = TARGETS[name]
    seeds = list(target.seeds())
    is_answered = attempt(target, seeds[0], tmp_path)
    assert is_answered == (name != "matlab"), "mutations of a refused seed test nothing"

    @settings(
        max_examples=100,
        deadline=10_000,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    @given(mutated(seeds) | st.binary(max_size=200))
    def check(data: bytes) -> None:
        attempt(target, data, tmp_path)

    check()


def zip_of(name: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(name, b"")
    return content.getvalue()


def model(**changes: object) -> bytes:
    return json.dumps(MODEL | changes).encode()


def index(rows: bytes) -> bytes:
    return b"label,name\n0,rose\n%%%member,id,split,label,sha256\n" + rows


DIGEST = b"0" * 64
TOO_LARGE = 2**64
# Each line is a list of the line before, nine times: a billion elements, if they are printed.
ALIASES = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 9)) for name in b"bcdefgh"
)
# Inputs that once ended in a traceback, a hang, text that a terminal obeys, or a wrong answer.
FOUND = [
    ("folder", zip_of("name").replace(b"name", b"\0ame")),  # an empty name
    ("index", b"\0"),
    ("index", b"\x1b[2J,name\n"),
    ("index", index(b'"a\nb",1,train,0,%s\n"a\nb",1,train,0,%s\n' % (DIGEST, DIGEST))),
    ("index", index(b"a,%d,train,0,%s\n" % (TOO_LARGE, DIGEST))),
    ("params", b"threads: 2001-99-99"),
    ("params", b"threads: " + b"9" * 5000),
    ("params", b"threads: 0x" + b"f" * 5000),
    ("params", b"threads: " + b"[" * 2000 + b"]" * 2000),
    ("params", ALIASES + b"threads: *h"),
    ("model", b"{"),
    ("model", model(mean=[])),
    ("model", model(classes=[1, 2, 3])),
    ("model", model(classes={"a": 1, "b": 2, "c": 3})),
    ("model", model(resize=10**6)),
    ("model", model(resize=36, crop=64)),
    ("lock", b""),
    ("lock", b"stages: {train@gone: {outs: [{path: .}]}}"),
    ("lock", b"stages: {1: {outs: []}}"),
]


@pytest.mark.parametrize(
    ("name", "data"), FOUND, ids=[f"{name}{place}" for place, (name, _) in enumerate(FOUND)]
)
def test_inputs_that_were_found_are_refused(name: str, data: bytes, tmp_path: Path) -> None:
    assert not attempt(TARGETS[name], data, tmp_path)
