"""A page on which a latent space is walked through, `sakiyomi serve NAME`: drawn in the browser, decoded by the model
here.

    sakiyomi serve digits
    sakiyomi serve digits-ae --port 0

For every model that draws (AE, VAE, CVAE). A point is moved on the map of z, sliders turn single numbers, buttons
choose the label, and the picture follows; a photo of a digit dropped on the page becomes the z of its hand. The server
keeps nothing of a visitor: every question holds all that its answer needs.

    GET  /                  the page
    GET  /about             JSON, what `Atlas.about` says: the model, the map, where recordings lie on it
    POST /draw              JSON {"z": [[number, ...], ...], "labels": [name, ...]} -> the pictures' bytes,
                            uint8 [N, H, W, C]; labels are empty for a model that is told none
    POST /photo?label=3     the bytes of an image file -> JSON, what `Atlas.read` says; without a label, the one that
                            the model finds most likely

What cannot be answered is answered with status 400 to 413 and JSON {"error": text}.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import torch

from sakiyomi.data.photo import read_photo
from sakiyomi.draw import as_bytes, decoded, drawing, held_out, names_of, on_plane, pile, plane_of
from sakiyomi.errors import SakiyomiError, at_least, at_most
from sakiyomi.page import HEADERS, need_libraries, server_for, trusted
from sakiyomi.rollout import Trained
from sakiyomi.run import console, set_threads
from sakiyomi.style import codes_of, number_of, style, takes_photos

if TYPE_CHECKING:
    import socket as sockets

    import uvicorn
    from fastapi import FastAPI, Request

MOST = 256  # pictures of one question
FARTHEST = 1e4  # a number of z is at most
QUESTION = 1 << 20  # bytes of a question, at most
UPLOAD = 20 << 20  # bytes of a photo, at most
SLOWEST = 30.0  # s a question may take to arrive
READ_ON = 3  # times its limit a question is read to its end, so that whoever sends it hears why it was refused


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Draw these."""

    z: list[list[float]]
    """[N, Z]."""
    labels: list[str]
    """N names; none for a model that is told no label."""


class RefusedError(SakiyomiError):
    """A question that is not read to its end; `code` is HTTP's."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class ServingLatent:
    """Where the page is, and how full its map."""

    host: str = "127.0.0.1"
    """Address to listen on; with any but this machine's own, whoever reaches it can use the page."""
    port: int = 8000
    """Port to listen on; 0 takes one that is free."""
    points: int = 1500
    """Held-out recordings on the map, at most."""


class Atlas:
    """What all visitors share: the model, and where recordings lie in its latent space. Raises SakiyomiError for a
    model that draws nothing."""

    def __init__(self, name: str, trained: Trained, points: int = ServingLatent.points) -> None:
        at_least("--points", points, 1)
        at_most("--points", points, 20_000)
        self.name, self.trained, self.latent = name, trained, drawing(trained).latent
        self.names = names_of(trained)
        self.shape = trained.model.shapes["image"]
        self.pile = pile(trained, held_out(trained), points)
        try:
            takes_photos(trained)
            self.no_photos = ""
        except SakiyomiError as error:
            self.no_photos = str(error)

    def about(self) -> dict[str, object]:
        """What a page needs to know: sizes, names, `points` on the map [N, 2] with their `kinds` [N], and the
        recordings' mean, deviation and reach of each number of z; z = `mean` + `factor` @ noise is as usual as they
        are."""
        codes = self.pile.codes
        middle, axes = plane_of(codes)
        covariance = torch.atleast_2d(torch.cov(codes.T)) if len(codes) > 1 else torch.eye(self.latent)
        values, directions = torch.linalg.eigh(covariance)
        channels, height, width = self.shape
        return {
            "name": self.name,
            "model": type(self.trained.model).__name__,
            "shape": (height, width, channels),
            "latent": self.latent,
            "labels": self.names,
            "kinds": self.pile.names,
            "middle": _plain(middle),
            "axes": _plain(axes),
            "points": _plain(on_plane(codes)),
            "of": self.pile.labels.tolist(),
            "mean": _plain(codes.mean(0)),
            "deviation": _plain(codes.std(0, correction=0)),
            "low": _plain(codes.min(0).values),
            "high": _plain(codes.max(0).values),
            "factor": _plain(directions * values.clamp_min(0).sqrt()),
            "no_photos": self.no_photos,
            "upload": UPLOAD,
        }

    def draw(self, ask: Ask) -> bytes:
        """Pictures, uint8 [N, H, W, C]. Raises SakiyomiError for z of another length, numbers beyond FARTHEST, labels
        there are none of, too many or too few."""
        if not 1 <= len(ask.z) <= MOST:
            raise SakiyomiError(f"{len(ask.z)} pictures asked for at once; it must be 1 to {MOST}")
        wrong = [len(numbers) for numbers in ask.z if len(numbers) != self.latent]
        if wrong:
            raise SakiyomiError(f"a z of {wrong[0]} numbers; the model's have {self.latent}")
        z = np.asarray(ask.z)
        if not (np.abs(z) <= FARTHEST).all():  # so written that NaN is refused
            raise SakiyomiError(f"a z with numbers that are not finite or beyond {FARTHEST:g}")
        labels = None
        if len(ask.labels) != (len(ask.z) if self.names else 0):
            needs = f"one for each of the {len(ask.z)} z" if self.names else "none: the model is told no label"
            raise SakiyomiError(f"{len(ask.labels)} labels; it needs {needs}")
        if self.names:
            numbers = torch.tensor([number_of(self.names, label) for label in ask.labels])
            labels = torch.eye(len(self.names))[numbers]
        return as_bytes(decoded(self.trained, torch.from_numpy(z).float(), labels)).tobytes()

    def read(self, content: bytes, label: str) -> dict[str, object]:
        """The hand in a photo: its z, its label and the one it looks like, the picture as read (uint8 [H * W]), where
        the digit was found, and what was done. Raises SakiyomiError as `read_photo` does."""
        if self.no_photos:
            raise SakiyomiError(self.no_photos)
        if label:
            number_of(self.names, label)
        photo = read_photo(content)
        found: dict[str, object] = {
            "picture": np.rint(255 * photo.picture).astype(int).ravel().tolist(),
            "box": photo.box,
            "size": photo.size,
            "did": photo.did,
        }
        if not self.names:
            z = codes_of(self.trained, photo.picture[None, None])[0]
            return {**found, "z": _plain(z), "label": "", "looks_like": "", "note": ""}
        hand = style(self.trained, photo, label)
        told = {"z": hand.z, "label": hand.label, "looks_like": hand.looks_like, "note": hand.note, "did": hand.did}
        return {**found, **told}


def _plain(values: torch.Tensor) -> list:
    """Rounded to what a page can show: shorter to send."""
    return np.round(values.double().numpy(), 5).tolist()


def read_ask(content: bytes) -> Ask:
    """Raises SakiyomiError, in one line, for what is no question."""
    try:
        return msgspec.json.decode(content, type=Ask)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SakiyomiError(
            f'not understood: {error}; expected {{"z": [[number, ...]], "labels": [name, ...]}}'
        ) from error


async def content_of(request: "Request", most: int) -> bytes:
    """What was sent. Raises SakiyomiError for more than `most` bytes, and for what takes longer than SLOWEST."""
    parts, size = [], 0
    try:
        async with asyncio.timeout(SLOWEST):
            async for part in request.stream():
                size += len(part)
                if size <= most:
                    parts.append(part)
                elif size > READ_ON * most:
                    break
    except TimeoutError:
        raise RefusedError(f"not all of it came within {SLOWEST:g} s; send it again", 408) from None
    if size > most:
        raise RefusedError(f"more than {most >> 20} MB were sent, which is the most; make it smaller", 413)
    return b"".join(parts)


def application(atlas: Atlas, options: ServingLatent) -> "FastAPI":
    """The page and what it asks. Raises SakiyomiError where the libraries for it are not installed."""
    need_libraries()
    from fastapi import FastAPI, Request, Response
    from starlette.requests import ClientDisconnect

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    page = resources.files("sakiyomi.views").joinpath("latent.html").read_bytes()
    about = msgspec.json.encode(atlas.about())
    reading = asyncio.Lock()  # one photo at a time: each takes a core for a moment

    def answer(content: bytes, kind: str, status: int = 200) -> Response:
        return Response(content, status, headers=HEADERS, media_type=kind)

    def refused(text: str, status: int) -> Response:
        return answer(msgspec.json.encode({"error": text}), "application/json", status)

    def stranger(request: Request) -> Response | None:
        host = request.headers.get("host", "")
        origin = request.headers.get("origin", "") if request.method == "POST" else f"http://{host}"
        return None if trusted(host, origin, options.host) else refused("only its own page may ask for this", 403)

    async def answered(request: Request, most: int, kind: str, reply: Callable[[bytes], Awaitable[bytes]]) -> Response:
        if no := stranger(request):
            return no
        try:
            return answer(await reply(await content_of(request, most)), kind)
        except SakiyomiError as error:
            return refused(str(error), error.code if isinstance(error, RefusedError) else 400)
        except ClientDisconnect:
            return refused("gone before all was sent", 400)  # nobody hears it

    @app.get("/")
    async def home(request: Request) -> Response:
        return stranger(request) or answer(page, "text/html")

    @app.get("/about")
    async def tell(request: Request) -> Response:
        return stranger(request) or answer(about, "application/json")

    @app.post("/draw")
    async def draw(request: Request) -> Response:
        async def reply(content: bytes) -> bytes:
            return atlas.draw(read_ask(content))

        return await answered(request, QUESTION, "application/octet-stream", reply)

    @app.post("/photo")
    async def photo(request: Request) -> Response:
        label = request.query_params.get("label", "")

        async def reply(content: bytes) -> bytes:
            async with reading:  # in a thread, so that others' pictures go on
                return msgspec.json.encode(await asyncio.to_thread(atlas.read, content, label))

        return await answered(request, UPLOAD, "application/json", reply)

    return app


def server_of(atlas: Atlas, options: ServingLatent) -> "tuple[uvicorn.Server, sockets.socket, str]":
    """A server that is not running yet, the socket it is to be run on, and the page's address. Raises SakiyomiError
    for an address that cannot be had."""
    return server_for(application(atlas, options), options.host, options.port)


def serve_latent(name: str, trained: Trained, options: ServingLatent) -> None:
    """Serve the page until Ctrl-C."""
    server, socket, address = server_of(Atlas(name, trained, options.points), options)
    set_threads(1)  # a picture is too small a matter to be shared between cores
    console.print(f"the latent space of {name}: {address}  (Ctrl-C ends)", markup=False, soft_wrap=True)
    with suppress(KeyboardInterrupt):
        server.run(sockets=[socket])
