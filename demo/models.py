"""Inputs and answers of two small ONNX models that come inside wheels on PyPI.

`magika` (wheel `magika`) names the content type of a file from its first and last bytes; `ocr`
(wheel `rapidocr-onnxruntime`, the PP-OCRv4 recogniser) reads one line of text from an image.
Both are found without importing their packages, so neither needs the packages' own dependencies:
`pip install --no-deps magika` and `pip install --no-deps --ignore-requires-python
rapidocr-onnxruntime==1.4.4` suffice.  Only numpy is used here; running the model is the caller's.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_PLACES = {
    "magika": ("magika", "models/*/model.onnx"),
    "ocr": ("rapidocr_onnxruntime", "models/*rec*.onnx"),
}

# Glyphs of 5 columns and 9 rows (rows 8 and 9 lie below the baseline): one number of five bits a
# row, in base 32 digits 0-9a-v, the highest bit leftmost.
_GLYPHS = {
    "a": "00e1fhf00", "b": "ggmphhu00", "c": "00ehghe00", "d": "11djhhf00", "e": "00ehvge00",
    "f": "698s88800", "g": "00fhhhf1e", "h": "ggmphhh00", "i": "40c444e00", "j": "20622222c",
    "k": "ggikoki00", "l": "444444400", "m": "00qlllh00", "n": "00mphhh00", "o": "00ehhhe00",
    "p": "00uhhhugg", "q": "00fhhhf11", "r": "00mpggg00", "s": "00fge1u00", "t": "88s889600",
    "u": "00hhhjd00", "v": "00hhha400", "w": "00hhlla00", "x": "00ha4ah00", "y": "00hhhhf1e",
    "z": "00v248v00", "0": "ehhhhhe00", "1": "4c4444e00", "2": "eh1248v00", "3": "u11e11u00",
    "4": "26aiv2200", "5": "vgu111u00", "6": "eggmphe00", "7": "v11248800", "8": "ehhehhe00",
    "9": "ehjd11e00", " ": "000000000",
}  # fmt: skip
_ROWS, _COLUMNS = 9, 5
_SPACE = 3  # dots a space is wide
_SCALE = 3  # pixels a glyph's dot is wide and high
_GAP = 5  # pixels between two characters
_HEIGHT = 48  # what the recogniser takes
_MARGIN = 8  # white pixels left and right of the text


def _package(name: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(name)
    places = list(spec.submodule_search_locations or ()) if spec else []
    if not places:
        raise ModuleNotFoundError(f"the package {name} is not installed", name=name)
    return Path(places[0])


def model_path(name: Literal["magika", "ocr"]) -> Path:
    """The model's ONNX file inside its installed wheel."""
    package, pattern = _PLACES[name]
    folder = _package(package)
    found = sorted(folder.glob(pattern))
    if not found:
        raise FileNotFoundError(f"no {pattern} under {folder}")
    return found[-1]


@cache
def _magika_config() -> dict[str, Any]:
    text = model_path("magika").with_name("config.min.json").read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    if config["mid_size"] or config["use_inputs_at_offsets"]:
        raise ValueError("this Magika model takes inputs from the middle of a file")
    return config


def magika_input(data: bytes) -> dict[str, Array]:
    """The model's input for a file's content, a batch of one.

    The first block, stripped of leading whitespace, gives the first tokens, padded on the right;
    the last block, stripped of trailing whitespace, gives the rest, padded on the left.
    """
    config = _magika_config()
    block, first, last = config["block_size"], config["beg_size"], config["end_size"]
    head = data[:block].lstrip()[:first]
    tail = data[max(0, len(data) - block) :].rstrip()
    tail = tail[max(0, len(tail) - last) :]
    least = config["min_file_size_for_dl"]
    if len(head) < least:
        raise ValueError(f"Magika needs {least} bytes past leading whitespace, not {len(head)}")
    tokens = np.full((1, first + last), config["padding_token"], np.int32)
    tokens[0, : len(head)] = np.frombuffer(head, np.uint8)
    if tail:
        tokens[0, -len(tail) :] = np.frombuffer(tail, np.uint8)
    return {"bytes": tokens}


def magika_answer(outputs: Mapping[str, Array]) -> tuple[str, float]:
    """The likeliest content type and its score; the model's own word, no threshold applied."""
    scores = outputs["target_label"][0]
    best = int(np.argmax(scores))
    return str(_magika_config()["target_labels_space"][best]), float(scores[best])


def _glyph(character: str) -> NDArray[np.float32]:
    """One character's pixels with the gap after it: 1 is ink; as wide as its ink, or a space."""
    try:
        rows = [int(digit, 32) for digit in _GLYPHS[character]]
    except KeyError:
        raise ValueError(f"no glyph for {character!r}: only a-z, 0-9 and space") from None
    masks = 1 << np.arange(_COLUMNS - 1, -1, -1)
    dots = (np.array(rows)[:, None] & masks) != 0
    dots = dots[:, dots.any(axis=0)] if dots.any() else dots[:, :_SPACE]
    pixels = np.kron(dots, np.ones((_SCALE, _SCALE))).astype(np.float32)
    return np.pad(pixels, ((0, 0), (0, _GAP)))


def _soften(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Blur by a box of three by three pixels: the recogniser was taught on smooth letters."""
    wide = np.pad(ink, 1)
    height, width = ink.shape
    soft = np.zeros_like(ink)
    for y in range(3):
        for x in range(3):
            soft += wide[y : y + height, x : x + width] / 9
    return soft


def ocr_input(text: str) -> dict[str, Array]:
    """The recogniser's input for a line of a-z, 0-9 and spaces: black on white, 48 pixels high."""
    if not text.strip():
        raise ValueError("no text to render")
    ink = np.hstack([_glyph(character) for character in text])
    free = _HEIGHT - _ROWS * _SCALE
    ink = np.pad(ink, ((free // 2, free - free // 2), (_MARGIN, _MARGIN - _GAP)))
    level = 1 - 2 * _soften(ink)  # (x / 255 - 0.5) / 0.5 of x = 255 for paper, 0 for ink
    image = np.broadcast_to(level, (1, 3, *level.shape))
    return {"x": np.ascontiguousarray(image, np.float32)}


def ocr_characters(metadata: Mapping[str, str]) -> str:
    """The recogniser's alphabet, from the model's custom metadata; its classes follow the blank."""
    characters = metadata["character"].split("\n")
    while characters and not characters[-1]:
        characters.pop()
    if any(len(character) != 1 for character in characters):
        raise ValueError("the model's dictionary has an entry that is not one character")
    return "".join(characters) + " "


def ocr_answer(outputs: Mapping[str, Array], characters: str) -> str:
    """The text read, by greedy CTC decoding: repeats fall together, then blanks (class 0) drop."""
    scores = next(iter(outputs.values()))[0]
    if scores.shape[1] != len(characters) + 1:
        raise ValueError(f"{scores.shape[1]} classes for {len(characters)} characters and a blank")
    best = scores.argmax(axis=1)
    fresh = np.ones(len(best), np.bool_)
    fresh[1:] = best[1:] != best[:-1]
    return "".join(characters[index - 1] for index in best[fresh & (best != 0)])
