"""A decoder child: `python -m sluice_processor.images.children.main FD PARENT OPTIONS`.

Takes one descriptor after the other from the socket FD and answers each (`answers.py`). Ends when
the socket does.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from typing import Any

from PIL import Image

from sluice_processor.images.children import confinement
from sluice_processor.images.children import protocol as answers
from sluice_processor.images.decoding import prepare, process_image
from sluice_processor.images.model import ImageOptions, ImageRefused, RefusalReason, ThumbnailFormat

READY = b"ready"


def main() -> None:
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    options = decode_options(sys.argv[3])
    confinement.die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us
    channel = socket.socket(fileno=fd)
    prepare()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sample = _sample()
    confinement.confine(options)
    process_image(sample, options, options.thumbnail_sizes)  # fails here, not at the first photo
    os.close(sample)
    channel.sendall(READY)
    os.dup2(nowhere, sys.stderr.fileno())  # decoders may quote the picture there
    os.close(nowhere)
    serve(channel, options)


def _sample() -> int:
    """A small picture to begin with."""
    fd = os.memfd_create("sample")
    with open(fd, "wb", closefd=False) as file:
        Image.new("RGB", (32, 32)).save(file, "PNG")
    return fd


def serve(channel: socket.socket, options: ImageOptions) -> None:
    """Answer requests until the other side closes."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, answers.MAX_REQUEST_BYTES, 1)
        if not request:
            return
        confinement.limit_time(options)
        try:
            answer = _answer(descriptors[0], options, answers.decode_request(request))
        finally:
            os.close(descriptors[0])
        confinement.end_limit_of_time()
        channel.sendall(answer)


def _answer(fd: int, options: ImageOptions, sizes: list[int]) -> bytes:
    try:
        return answers.encode_answer(process_image(fd, options, sizes))
    except ImageRefused as refused:
        return answers.encode_refusal(refused)
    except MemoryError:
        pass  # what it held on to is free only when its traceback is
    return answers.encode_refusal(
        ImageRefused(RefusalReason.MEMORY, "Decoding needs more memory than there may be.")
    )


def encode_options(options: ImageOptions) -> str:
    names = ImageOptions.__dataclass_fields__
    return json.dumps({name: getattr(options, name) for name in names})


def decode_options(text: str) -> ImageOptions:
    values: dict[str, Any] = json.loads(text)
    values["thumbnail_sizes"] = tuple(values["thumbnail_sizes"])
    values["thumbnail_format"] = ThumbnailFormat(values["thumbnail_format"])
    return ImageOptions(**values)


if __name__ == "__main__":
    main()
