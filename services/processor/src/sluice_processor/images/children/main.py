"""Entry point of a decoder child: `python -m sluice_processor.images.children.main …`."""

from __future__ import annotations

import math
import os
import signal
import socket
import sys

from PIL import Image

from sluice_processor.images.children import confinement, protocol
from sluice_processor.images.decoding import prepare, process_image
from sluice_processor.images.model import ImageOptions, ImageRefused, RefusalReason


def main() -> None:
    """Serve requests from a socket until it is closed.

    The arguments are the descriptor of the socket, the process id of the parent and the options
    (`protocol.encode_options`).
    """
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    options = protocol.decode_options(sys.argv[3])
    confinement.die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops us
    channel = socket.socket(fileno=fd)
    prepare()
    devnull = os.open(os.devnull, os.O_WRONLY)
    sample = _sample(options.max_pixels)
    confinement.confine(options)
    process_image(sample, options, options.thumbnail_sizes)  # fail now, not with the first photo
    os.close(sample)
    channel.sendall(protocol.READY)
    os.dup2(devnull, sys.stderr.fileno())  # decoders may quote the picture on it
    os.close(devnull)
    serve(channel, options)


def _sample(max_pixels: int) -> int:
    """Return the descriptor of a small picture for the self-test."""
    fd = os.memfd_create("sample")
    side = min(32, math.isqrt(max_pixels))
    with open(fd, "wb", closefd=False) as file:
        Image.new("RGB", (side, side)).save(file, "PNG")
    return fd


def serve(channel: socket.socket, options: ImageOptions) -> None:
    """Answer requests until the parent closes the socket."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(channel, protocol.MAX_REQUEST_BYTES, 1)
        if not request:
            return
        confinement.limit_time(options)
        try:
            answer = _answer(descriptors[0], options, protocol.decode_request(request))
        finally:
            os.close(descriptors[0])
        confinement.clear_time_limit()
        channel.sendall(answer)


def _answer(fd: int, options: ImageOptions, sizes: list[int]) -> bytes:
    try:
        return protocol.encode_answer(process_image(fd, options, sizes))
    except ImageRefused as refused:
        return protocol.encode_refusal(refused)
    except MemoryError:
        pass  # answer outside the handler: the traceback keeps the memory alive
    return protocol.encode_refusal(
        ImageRefused(RefusalReason.MEMORY, "Decoding needs more memory than a decoder may use.")
    )


if __name__ == "__main__":
    main()
