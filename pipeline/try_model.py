"""A page to try a trained model in a browser: python -m pipeline.try_model [MODEL] [--port N]

MODEL is a file of models/; else the variable MODEL says which, else it is the only *.safetensors
file of the current directory. A Hugging Face Space runs the same file (docs/try.md).

The page is Python's own web server and one template. It loads nothing from elsewhere, and an image
reaches the model as the bytes of its file, so the answer is that of pipeline.predict.
"""

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from pathlib import Path, PurePosixPath
from socketserver import ThreadingTCPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image

from pipeline.base.errors import UserError, for_people, listed, print_note
from pipeline.base.parallel import cpu_workers
from pipeline.compute.device import setup_torch
from pipeline.data.archive import LARGEST, Archive
from pipeline.data.images import central_square
from pipeline.data.raw import ARCHIVE, INDEX, read_classes, read_index
from pipeline.models.files import TrainedModel, load_model
from pipeline.predict import Answer, Predictor
from pipeline.report.html import data_url, render, small
from pipeline.sources.files import SUFFIXES

PORT = 7860  # where a Hugging Face Space listens
EXAMPLES = 6
TIMEOUT = 60  # seconds that a browser may be silent
# A browser that obeys it loads and sends nothing beyond this server.
POLICY = (
    "default-src 'none'; connect-src 'self'; img-src data:; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
)
HTML = "text/html; charset=utf-8"
JSON = "application/json"
BYTES = "application/octet-stream"


@dataclass(frozen=True)
class Example:
    """A test image: the name of its file, the file, its class, and a small picture (a data URL)."""

    name: str
    encoded: bytes
    class_name: str
    picture: str


class Page:
    """What the server says: the page, and the answer for an image."""

    def __init__(self, predictor: Predictor, examples: Sequence[Example]) -> None:
        self.examples = examples
        self._predictor = predictor
        self._lock = Lock()  # one image at a time: it uses all cores, and memory stays bounded
        self.html = _render(predictor.model, examples)

    def answer(self, name: str, encoded: bytes) -> dict[str, Any]:
        """The answer for the content of a file, for the page: a fault, or all that it shows."""
        with self._lock:
            answer = self._predictor.answer(Path(name), encoded)
            if answer.square is None:
                return {"fault": answer.fault}
            panel = self._predictor.explanation(answer)
        return {
            "name": name,
            "verdict": answer.verdict,
            "sentence": self._sentence(answer),
            "classes": answer.classes,
            "square": _picture(answer.square),
            "evidence": _picture(panel.image) if panel else "",
            "note": panel.note if panel else "no feature map",
        }

    def _sentence(self, answer: Answer) -> str:
        """How far the answer can be believed, in words."""
        sure_from = self._predictor.model.header.sure_from
        sentences = {
            "sure": f"Sure: {sure_from:.1%} or more",
            "unsure": f"Unsure: below {sure_from:.1%}, from which on this model is sure",
            "none of these": "None of these: it is like no image that this model learned from",
        }
        return sentences[answer.verdict]


def _render(model: TrainedModel, examples: Sequence[Example]) -> bytes:
    """The page, in the look of the report."""
    values = {"header": model.header, "examples": examples, "largest": LARGEST}
    return render("try_model.html", **values).encode()


def _picture(image: np.ndarray) -> str:
    """An image (uint8 [height, width, 3]) as a data URL."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=90)
    return data_url(file.getvalue())


class Handler(BaseHTTPRequestHandler):
    """GET / is the page, GET /example?number=N a test image, POST /answer?name=NAME an answer."""

    server: "Server"
    timeout = TIMEOUT

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        examples = self.server.page.examples
        number = parse_qs(url.query).get("number", [""])[0]
        if not self._is_addressed():
            self._fault(HTTPStatus.FORBIDDEN, "the address must begin with 127.0.0.1 or localhost")
        elif url.path == "/":
            self._send(HTTPStatus.OK, HTML, self.server.page.html)
        elif url.path == "/example" and number in map(str, range(len(examples))):
            self._send(HTTPStatus.OK, BYTES, examples[int(number)].encoded)
        else:
            self._fault(HTTPStatus.NOT_FOUND, "nothing is here; the page is at /")

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        length = self.headers.get("Content-Length", "")
        if not self._is_addressed():
            self._fault(HTTPStatus.FORBIDDEN, "the address must begin with 127.0.0.1 or localhost")
        elif url.path != "/answer":
            self._fault(HTTPStatus.NOT_FOUND, "images go to /answer")
        elif not length.isdecimal():
            self._fault(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long it is")
        elif int(length) > LARGEST:
            fault = f"the file has more than {LARGEST:,} bytes, which no photograph has"
            self._fault(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, fault)
        else:
            name = parse_qs(url.query).get("name", ["image"])[0]
            self._answer(" ".join(name.split()), self.rfile.read(int(length)))

    def _answer(self, name: str, encoded: bytes) -> None:
        try:
            answer = self.server.page.answer(name, encoded)
        except Exception:
            fault = "the program failed on this image; the terminal that it runs in says why"
            self._fault(HTTPStatus.INTERNAL_SERVER_ERROR, fault)
            raise
        self._send(HTTPStatus.OK, JSON, json.dumps(answer).encode())

    def _is_addressed(self) -> bool:
        """Whether the browser was sent to this machine by an address of it.

        A page of another site could else read here, under a name that it lets point to 127.0.0.1.
        """
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        return in_space() or host in ("127.0.0.1", "localhost")

    def _fault(self, status: HTTPStatus, fault: str) -> None:
        self._send(status, JSON, json.dumps({"fault": fault}).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """The terminal shows faults of the program only."""


class Server(ThreadingTCPServer):
    """Listens on 127.0.0.1; in a Space, where a proxy of Hugging Face asks, on every address."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int, page: Page) -> None:
        self.page = page
        super().__init__(("0.0.0.0" if in_space() else "127.0.0.1", port), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback, but not of a browser that went away."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def in_space() -> bool:
    """Whether this is a Hugging Face Space."""
    return "SPACE_ID" in os.environ


def listen(port: int, page: Page) -> Server:
    """A server that listens.

    Raises:
        UserError: the port is in use, or not allowed.
    """
    try:
        return Server(port, page)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        fault = "is in use" if in_use else f"cannot be used ({error.strerror})"
        other = port + 1 if port >= PORT else PORT
        raise UserError(
            f"port {port} {fault}; choose another: make try MODEL=… PORT={other}"
        ) from None


def find_model(named: str) -> Path:
    """The model's file: the one that is named, else the only one in the current directory.

    Raises:
        UserError: none is named, and there is none or more than one.
    """
    if named:
        path = Path(named)
        if path.suffix.lower() in SUFFIXES:
            raise UserError(f"{path}: is an image; give a model, and drop the image on its page")
        if not path.is_file():
            raise UserError(f"{path}: no such file; give a model, such as models/NAME.safetensors")
        return path
    found = sorted(Path().glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    several = f" (here are {listed([path.name for path in found])})" if found else ""
    raise UserError(
        f"no model is given{several}: make try MODEL=own/models/fine_tuning.safetensors"
    )


def find_examples(path: Path, model: TrainedModel) -> list[Example]:
    """Test images of the run that made a model, of classes spread evenly; none without the run.

    The run lies around models/NAME.safetensors and around exported/NAME/model.safetensors.
    """
    for folder in path.absolute().parents[1:3]:
        raw = folder / "data" / "raw"
        if (raw / INDEX).is_file():
            try:
                return _read_examples(raw, model)
            except UserError as error:
                print_note(f"no examples on the page: {error}")
    return []


def _read_examples(raw: Path, model: TrainedModel) -> list[Example]:
    names = model.header.classes
    if read_classes(raw) != names:
        raise UserError(f"{raw}: has other classes than the model")
    index = read_index(raw)
    test = index[index["split"] == "test"].drop_duplicates("label").sort_values("label")
    places = np.linspace(0, len(test) - 1, min(EXAMPLES, len(test))).round().astype(int)
    examples = []
    with Archive(raw / ARCHIVE, test["member"].tolist()) as archive:
        for row in test.iloc[places].to_dict("records"):
            encoded = archive.read(row["member"])
            square = central_square(encoded, row["member"], model.preprocessing)
            name = PurePosixPath(row["member"]).name
            examples.append(Example(name, encoded, names[row["label"]], small(square)))
    return examples


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.try_model",
        description="A page to try a trained model in a browser.",
    )
    parser.add_argument("model", nargs="?", default="", help="a file of models/; default: $MODEL")
    parser.add_argument("--port", type=int, default=PORT, help=f"default: {PORT}")
    arguments = parser.parse_args()
    if not 0 <= arguments.port < 2**16:
        parser.error("--port must be 1 to 65535, or 0 for any that is free")
    return arguments


def main() -> None:
    """Serve the page until Ctrl-C.

    Raises:
        UserError: no model, one that cannot be read, or a port that cannot be used.
    """
    arguments = parse_arguments()
    path = find_model(arguments.model or os.environ.get("MODEL", ""))
    model = load_model(path)
    predictor = Predictor(model, setup_torch("auto", cpu_workers("auto")))
    page = Page(predictor, find_examples(path, model))
    with listen(arguments.port, page) as server:
        port = server.server_address[1]
        print(f"http://127.0.0.1:{port} tries {path}; Ctrl-C ends it", flush=True)
        server.serve_forever()


def run() -> None:
    """The console command."""
    with for_people():
        try:
            main()
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    run()
