"""The page to try a model: answers as predict gives them, a line for each fault, in a browser."""

import http.client
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pipeline.base.errors import UserError
from pipeline.data.raw import RawData, write_raw
from pipeline.models.files import TrainedModel, save_model
from pipeline.models.known import keep
from pipeline.models.networks import new_network
from pipeline.predict import Predictor
from pipeline.try_model import EXAMPLES, POLICY, Page, find_examples, listen, main
from tests.browser import requests, set_width
from tests.conftest import HEADER, jpeg
from tests.small import CPU, write_small_data
from tools.commands import environment
from tools.sandbox import PROJECT

HOSTILE = ["<script>alert(1)</script>", '" onerror="x', "{{ 7 * 7 }} زهرة"]
BROKEN = b"<html>not found</html>"


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    """With logits far apart, as a trained one has."""
    network = new_network(HEADER.network, None, len(HEADER.classes), seed=0).eval()
    with torch.no_grad():
        network.get_parameter("fc.weight").mul_(50)
    return TrainedModel(network, HEADER)


@pytest.fixture
def no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACE_ID", "MODEL"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serving(page: Page) -> Iterator[int]:
    """A server of the page; its port."""
    with listen(0, page) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def predictor(model: TrainedModel) -> Predictor:
    return Predictor(model, CPU)


@pytest.fixture
def page(predictor: Predictor) -> Page:
    return Page(predictor, [])


@pytest.fixture
def port(page: Page, no_space: None) -> Iterator[int]:
    with serving(page) as number:
        yield number


def ask(
    port: int,
    path: str,
    content: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, Any]:
    """Status and content of a reply; POST if there is content."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET" if content is None else "POST", path, content, headers or {})
    reply = connection.getresponse()
    body = reply.read()
    assert reply.headers["Content-Security-Policy"] == POLICY
    connection.close()
    is_json = reply.headers["Content-Type"] == "application/json"
    return reply.status, json.loads(body) if is_json else body


def turned() -> bytes:
    """A JPEG file that is upright only as its EXIF orientation says."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(io.BytesIO(jpeg(1))).save(file, "JPEG", exif=exif)
    return file.getvalue()


def png(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


CLEAR = np.random.default_rng(1).integers(0, 256, (60, 41, 4), dtype=np.uint8)
GREY = (np.random.default_rng(0).uniform(0, 0.9, (40, 70)) * 65535).astype(np.uint16)


@pytest.mark.parametrize("encoded", [jpeg(0), turned(), png(CLEAR), png(GREY)])
def test_answers_are_those_of_predict(
    predictor: Predictor, port: int, tmp_path: Path, encoded: bytes
) -> None:
    """Whatever an image is like: the page sends the bytes of its file."""
    path = tmp_path / "image"
    path.write_bytes(encoded)
    (expected,) = predictor.answers([path])
    status, answer = ask(port, f"/answer?name={quote('mon été.jpg')}", encoded)
    assert status == 200
    assert answer["name"] == "mon été.jpg"
    assert answer["classes"] == expected.classes
    assert answer["verdict"] == expected.verdict
    assert answer["note"] in ("", "no positive evidence")
    for picture in ("square", "evidence"):
        assert answer[picture].startswith("data:image/jpeg;base64,")


def test_how_far_an_answer_can_be_believed_is_said_in_words(model: TrainedModel) -> None:
    sentences = []
    for sure_from, known_from in ((0.25, -1.0), (1.0, -1.0), (0.25, 1.0)):
        limits = {"sure_from": sure_from, "known_from": known_from, "temperature": 100.0}
        changed = HEADER.model_copy(update=limits)
        known = keep(torch.rand(2, 1024))
        page = Page(Predictor(TrainedModel(model.network, changed, known), CPU), [])
        sentences.append(page.answer("x", jpeg(0))["sentence"])
    assert sentences == [
        "Sure: 25.0% or more",
        "Unsure: below 100.0%, from which on this model is sure",
        "None of these: it is like no image that this model learned from",
    ]


def test_a_network_without_a_feature_map_answers_all_the_same(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.predict.gradcam", lambda *arguments: None)
    answer = page.answer("x", jpeg(0))
    assert (answer["evidence"], answer["note"]) == ("", "no feature map")
    assert len(answer["classes"]) == 3


def test_names_of_classes_are_shown_as_they_are(model: TrainedModel) -> None:
    header = HEADER.model_copy(update={"classes": HOSTILE})
    html = Page(Predictor(TrainedModel(model.network, header), CPU), []).html.decode()
    assert html.count("<script>") == 1
    assert "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>" in html
    assert "{{ 7 * 7 }} زهرة" in html
    assert "://" not in html  # nothing is loaded from elsewhere


@pytest.mark.parametrize(
    ("path", "content", "headers", "status", "fault"),
    [
        ("/answer?name=a.jpg", BROKEN, {}, 200, "a.jpg: not a readable image (it begins with "),
        ("/answer?name=a.jpg", b"", {}, 200, "a.jpg: not a readable image (an empty file)"),
        ("/answer?name=a%0Ab%1B.jpg", b"", {}, 200, "a b\\x1b.jpg: not a readable image (an"),
        ("/answer", jpeg(0)[:300], {}, 200, "image: not a readable image ("),
        ("/answer", b"", {"Content-Length": "999999999"}, 413, "the file has more than 268,435,4"),
        ("/answer", b"", {"Content-Length": "-1"}, 411, "the request does not say how long it is"),
        ("/other", b"", {}, 404, "images go to /answer"),
        ("/example?number=0", None, {}, 404, "nothing is here; the page is at /"),
        ("/", None, {"Host": "evil.example"}, 403, "the address must begin with 127.0.0.1"),
        ("/answer", b"", {"Host": "evil.example"}, 403, "the address must begin with 127.0.0.1"),
    ],
)
def test_a_fault_is_a_line(
    port: int,
    path: str,
    content: bytes | None,
    headers: dict[str, str],
    status: int,
    fault: str,
) -> None:
    found, answer = ask(port, path, content, headers)
    assert found == status
    assert list(answer) == ["fault"]
    assert answer["fault"].startswith(fault)


def test_a_bug_is_a_line_on_the_page_and_a_traceback_in_the_terminal(
    page: Page, port: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.predict.gradcam", lambda *arguments: 1 / 0)
    status, answer = ask(port, "/answer?name=x", jpeg(0))
    assert status == 500
    assert answer["fault"].startswith("the program failed on this image; the terminal")
    monkeypatch.undo()
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert ask(port, "/answer?name=x", jpeg(0))[0] == 200
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_port_in_use_is_a_line(page: Page, port: int) -> None:
    with pytest.raises(UserError, match=rf"^port {port} is in use; choose another: make try MODEL"):
        listen(port, page)


def test_only_a_space_listens_beyond_this_machine(
    page: Page, no_space: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listen(0, page) as server:
        assert server.server_address[0] == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "someone/flowers")
    with listen(0, page) as server:
        assert server.server_address[0] == "0.0.0.0"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_space: None) -> Callable[..., str]:
    """``python -m pipeline.try_model`` in an empty folder, which must fail; its message."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["try_model", *arguments])
        with pytest.raises(UserError) as raised:
            main()
        return str(raised.value)

    monkeypatch.chdir(tmp_path)
    return call


def test_a_model_that_cannot_be_used_is_a_line(
    model: TrainedModel, start: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    advice = "make try MODEL=own/models/fine_tuning.safetensors"
    assert start() == f"no model is given: {advice}"
    assert start("nowhere").startswith("nowhere: no such file; give a model, such as models/")
    assert start("a.JPG").startswith("a.JPG: is an image; give a model, and drop the image")
    Path("text.safetensors").write_text("text")
    assert start().startswith("text.safetensors: not a model of this pipeline (")
    # A model of an older form has no sure_from.
    save_model(Path("model.safetensors"), TrainedModel(model.network, HEADER))
    content = Path("model.safetensors").read_bytes()
    older = content.replace(rb"\"sure_from\"", rb"\"from_sure\"")
    assert older != content
    Path("older.safetensors").write_bytes(older)
    monkeypatch.setenv("MODEL", "older.safetensors")
    message = "older.safetensors: not a model of this pipeline (sure_from: Field required)"
    assert start().startswith(message)
    monkeypatch.delenv("MODEL")
    several = "'model.safetensors', 'older.safetensors', 'text.safetensors'"
    assert start() == f"no model is given (here are {several}): {advice}"


@pytest.fixture(scope="module")
def finished(model: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models/ and data/raw/, as a run leaves them."""
    folder = tmp_path_factory.mktemp("run")
    images = write_small_data(folder)
    tables = [
        pd.DataFrame(
            {
                "member": split.members,
                "id": split.ids,
                "split": name,
                "label": split.labels,
                "sha256": split.digests,
            }
        )
        for name, split in images.splits.items()
    ]
    (folder / "data" / "raw").mkdir(parents=True)
    raw = RawData(images.archive.path, pd.concat(tables), HEADER.classes)
    write_raw(folder / "data" / "raw", raw)
    (folder / "models").mkdir()
    save_model(folder / "models" / "fine_tuning.safetensors", TrainedModel(model.network, HEADER))
    return folder


def test_examples_are_test_images_of_the_run_around_the_model(
    finished: Path, model: TrainedModel, predictor: Predictor, no_space: None
) -> None:
    examples = find_examples(finished / "models" / "fine_tuning.safetensors", model)
    index = pd.read_csv(finished / "data" / "raw" / "index.csv")
    test = index[index["split"] == "test"]
    names = [Path(member).name for member in test["member"]]
    labels = dict(zip(names, test["label"].map(HEADER.classes.__getitem__), strict=True))
    assert [example.class_name for example in examples] == HEADER.classes[:EXAMPLES]
    assert all(labels[example.name] == example.class_name for example in examples)
    exported = find_examples(finished / "exported" / "fine_tuning" / "model.safetensors", model)
    assert exported == examples
    with serving(Page(predictor, examples)) as port:
        assert ask(port, "/example?number=2") == (200, examples[2].encoded)


def test_a_page_without_examples(
    finished: Path,
    model: TrainedModel,
    page: Page,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No run, or another one, is no reason to show no page."""
    assert find_examples(tmp_path / "models" / "x.safetensors", model) == []
    assert capsys.readouterr().out == ""
    other = HEADER.model_copy(update={"classes": ["a", "b", "d"]})
    path = finished / "models" / "fine_tuning.safetensors"
    assert find_examples(path, TrainedModel(model.network, other)) == []
    assert "has other classes than the model" in capsys.readouterr().out
    assert b"Test images" not in page.html


def test_a_browser_answers_and_names_a_broken_file(
    finished: Path, predictor: Predictor, browser: Any, tmp_path: Path, no_space: None
) -> None:
    """Nothing scrolls sideways on a phone, and nothing is asked of another machine."""
    files = {"noise.jpg": jpeg(3), "broken.jpg": BROKEN, "empty.jpg": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    expected = predictor.answer(Path("noise.jpg"), files["noise.jpg"])
    examples = find_examples(finished / "models" / "fine_tuning.safetensors", predictor.model)

    def text(name: str) -> str:
        return str(browser.find_element("id", name).text)

    def wait(name: str) -> None:
        end = time.monotonic() + 30
        while not browser.find_element("id", name).is_displayed():
            assert time.monotonic() < end, f"no {name}"
            time.sleep(0.05)

    def choose(name: str) -> None:
        browser.find_element("id", "file").send_keys(str(tmp_path / name))

    with serving(Page(predictor, examples)) as port:
        for width in (1200, 390):
            set_width(browser, width)
            requests(browser)
            browser.get(f"http://127.0.0.1:{port}/")
            choose("noise.jpg")
            wait("answer")
            lines = text("classes").splitlines()
            assert lines[0::2] == [row["class"] for row in expected.classes]
            assert lines[1::2] == [f"{row['probability']:.1%}" for row in expected.classes]
            assert text("verdict") == "Sure: 0.0% or more"
            for picture in ("square", "evidence"):
                loaded = "return document.getElementById(arguments[0]).naturalWidth"
                assert browser.execute_script(loaded, picture) == HEADER.crop
            fits = "return document.documentElement.scrollWidth <= window.innerWidth"
            assert browser.execute_script(fits)
            for name in ("broken.jpg", "empty.jpg"):
                choose(name)
                wait("fault")
                assert text("fault").startswith(f"{name}: not a readable image (")
                assert not browser.find_element("id", "answer").is_displayed()
                browser.find_elements("css selector", "#examples button")[0].click()
                wait("answer")
                assert text("state") == examples[0].name
                assert text("fault") == ""
            asked = [url for url in requests(browser) if not url.startswith(("data:", "blob:"))]
            assert asked
            assert all(url.startswith(f"http://127.0.0.1:{port}/") for url in asked)
            assert browser.get_log("browser") == []
    choose("noise.jpg")
    wait("fault")
    assert text("fault").startswith("noise.jpg: no answer. ")


@pytest.mark.slow
def test_the_same_file_is_the_app_of_a_space(
    model: TrainedModel, tmp_path: Path, no_space: None
) -> None:
    """Beside it lies one model; Hugging Face sets SPACE_ID, and asks under another name."""
    shutil.copyfile(PROJECT / "pipeline" / "try_model.py", tmp_path / "app.py")
    save_model(tmp_path / "model.safetensors", TrainedModel(model.network, HEADER))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = environment() | {"PYTHONPATH": f"{PROJECT}:{os.environ['PYTHONPATH']}"}
    started = subprocess.Popen(
        [sys.executable, "app.py", "--port", str(port)],
        cwd=tmp_path,
        env=variables | {"SPACE_ID": "someone/flowers"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert started.stdout
    line = started.stdout.readline()
    assert line == f"http://127.0.0.1:{port} tries model.safetensors; Ctrl-C ends it\n"
    asked = {"Host": "someone-flowers.hf.space"}
    assert ask(port, "/", headers=asked)[0] == 200
    assert len(ask(port, "/answer", jpeg(0), asked)[1]["classes"]) == 3
    started.send_signal(signal.SIGINT)
    assert started.wait(30) == 0
    assert started.stdout.read() == "\n"
