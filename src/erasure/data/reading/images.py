"""Pictures as one uint8 tensor: decoded, brought to a common size, and scaled only when a batch is cut."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from erasure.data.on_disk import empty_column
from erasure.data.progress import report
from erasure.errors import DataError, InvalidParameters, MissingDependency, nearest
from erasure.training.batches import TensorColumn
from erasure.training.mapped import MappedColumn

__all__ = ["PicturePreparation", "pillow", "recipe", "stacked"]

_ACCEPTED = "ToTensor, Normalize, Resize, Grayscale and CenterCrop"
_RANDOM = "what a source yields is fixed; for random changes while training, give the predictor augment"
_FILTERS = {"nearest": 0, "bilinear": 2, "bicubic": 3, "lanczos": 1}
_AT_A_TIME = 512
_MAX_THREADS = 16
_PLAIN_MODES = {"1": "L", "L": "L", "RGB": "RGB"}


@dataclass(frozen=True)
class PicturePreparation:
    """What is done to each picture.

    Args:
        steps: Functions from picture to picture, in order.
        mean: Subtracted from each channel of values in [0, 1]; empty for nothing.
        std: Divided by afterwards.
    """

    steps: tuple[Callable[[Any], Any], ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def column(self, pictures: TensorColumn) -> TensorColumn:
        """Pictures ``(N, C, H, W)`` in uint8 as a column of values in [0, 1], normalised if the recipe says so.

        Raises:
            DataError: If there is a mean for another number of channels.
        """
        if not self.mean:
            return replace(pictures, scale=1 / 255)
        if len(self.mean) not in {1, pictures.sample_shape[0]}:
            raise DataError(f"{len(self.mean)} means for pictures of {pictures.sample_shape[0]} channels")
        mean, std = (torch.tensor(each, dtype=torch.float32)[:, None, None] for each in (self.mean, self.std))
        return replace(pictures, scale=1 / 255, mean=mean, std=std)


def pillow(purpose: str) -> Any:
    """The module ``PIL.Image``.

    Raises:
        MissingDependency: If Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise MissingDependency("pillow", "vision", purpose) from error
    return Image


def recipe(transforms: Sequence[str], mean: Sequence[float] = (), std: Sequence[float] = ()) -> PicturePreparation:
    """A list of transforms as it is written in configurations, such as ``Resize((32, 32))``; nothing is evaluated.

    Args:
        transforms: ``ToTensor``, ``Normalize``, ``Resize``, ``Grayscale`` and ``CenterCrop`` with torchvision's arguments, with
            or without ``transforms.`` in front.
        mean: As a ``Normalize`` at the end.
        std: Of the same.

    Raises:
        InvalidParameters: If one of them is unknown, random, out of place or has other arguments.
    """
    steps: list[Callable[[Any], Any]] = []
    normal = _Arguments("Normalize", {"mean": list(mean), "std": list(std)}) if mean or std else None
    for text in transforms:
        call = _parsed(text)
        if call.name == "ToTensor":
            call.bound()
        elif call.name == "Normalize":
            if normal is not None:
                raise InvalidParameters(f'"{text}": the values are normalised twice')
            normal = call
        elif normal is not None and not (mean or std):
            raise InvalidParameters(f'"{text}" comes after Normalize; pictures are resized and cropped first')
        else:
            steps.append(_STEPS[call.name](call))
    if normal is None:
        return PicturePreparation(tuple(steps))
    return PicturePreparation(tuple(steps), *_normalisation(normal))


def stacked(
    n_pictures: int,
    read: Callable[[int], Any],
    made: PicturePreparation,
    described: Callable[[int], str],
    channels: int | None = None,
) -> TensorColumn:
    """Pictures of one size and number of channels in one column.

    They are decoded by several threads. A column that is too large for memory is made in a file, some hundred pictures at a time.

    Args:
        n_pictures: How many.
        read: A picture by its position; it may be lazy, and must allow several threads.
        made: What is done to each.
        described: What to call a picture in messages.
        channels: 1 for grey, 3 for colour; by default as the first picture.

    Returns:
        ``(N, C, H, W)``, uint8, not scaled.

    Raises:
        DataError: If a picture cannot be decoded, or differs from the first in size; says which.
    """
    if n_pictures == 0:
        raise DataError("there is no picture")
    with warnings.catch_warnings(), ThreadPoolExecutor(_threads(), thread_name_prefix="decoding") as pool:
        warnings.simplefilter("ignore")  # about odd metadata; what matters is whether the pixels can be read
        decode = _Decoder(read, made, described, channels)
        first = decode(0)
        decode.like = first
        column = empty_column((n_pictures, *first.shape), torch.uint8)
        column.values[0] = first

        def fill(position: int) -> None:
            column.values[position] = decode(position)

        for start in range(1, n_pictures, _AT_A_TIME):
            # The results are asked for in order, so that the first picture that is wrong is the one that is named.
            done = min(start + _AT_A_TIME, n_pictures)
            for _ in pool.map(fill, range(start, done)):
                pass
            if isinstance(column, MappedColumn):
                column.release()
            report(done, n_pictures)
    return column


@dataclass
class _Decoder:
    """Pixels ``(C, H, W)`` of a picture by its position; all like the first, once there is one."""

    read: Callable[[int], Any]
    made: PicturePreparation
    described: Callable[[int], str]
    channels: int | None
    like: Tensor | None = None

    def __call__(self, position: int) -> Tensor:
        import numpy as np

        try:
            picture = self.read(position)
            picture.load()
            picture = _plain(picture)
        except Exception as error:  # damaged files make the decoders fail in every possible way
            raise DataError(f"{self.described(position)} cannot be decoded as a picture: {_reason(error)}") from error
        for step in self.made.steps:
            picture = step(picture)
        if self.channels is None:
            picture = _like_the_first(picture, self.like, self.described, position)
        else:
            picture = _in_mode(picture, "L" if self.channels == 1 else "RGB")
        pixels = torch.from_numpy(np.array(picture, dtype=np.uint8))
        pixels = pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)
        if self.like is not None and pixels.shape != self.like.shape:
            found, first = ("×".join(str(side) for side in each.shape[-2:]) for each in (pixels, self.like))
            remedy = 'bring them to a common size, such as "Resize((64, 64))"'
            raise DataError(f"{self.described(position)} has {found} pixels (height × width), the first one {first}; {remedy}")
        return pixels


def _threads() -> int:
    return max(2, min(_MAX_THREADS, os.cpu_count() or 1))  # one reads while another decodes


def _plain(picture: Any) -> Any:
    """Grey pictures as ``L``, all others as ``RGB``."""
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        raise ValueError(f"it has more than 8 bits a channel (mode {mode}); convert it to 8 bits")
    return picture if picture.mode in {"L", "RGB"} else picture.convert(_PLAIN_MODES.get(mode, "L" if mode == "LA" else "RGB"))


def _in_mode(picture: Any, mode: str) -> Any:
    return picture if picture.mode == mode else picture.convert(mode)


def _like_the_first(picture: Any, first: Tensor | None, described: Callable[[int], str], position: int) -> Any:
    if first is None:
        return picture
    if first.shape[0] == 1 and picture.mode == "RGB":
        remedy = 'give "Grayscale(1)" or "Grayscale(3)" among the transforms, or the number of channels'
        raise DataError(f"{described(position)} is in colour, the first picture is grey; {remedy}")
    return _in_mode(picture, "L" if first.shape[0] == 1 else "RGB")


def _reason(error: BaseException) -> str:
    if type(error).__name__ == "UnidentifiedImageError":
        return "it is of no kind that Pillow knows"  # its own words repeat the path, or name a buffer
    return str(error).splitlines()[0] if str(error) else type(error).__name__


@dataclass(frozen=True)
class _Arguments:
    """A transform with its literal arguments."""

    name: str
    named: dict[str, Any] = field(default_factory=dict)
    positional: tuple[Any, ...] = ()
    text: str = ""

    def bound(self, *names: str, **defaults: Any) -> list[Any]:
        """Values in the order of ``names`` and ``defaults``; without a default they must be there."""
        order = (*names, *defaults)
        given = dict(zip(order, self.positional, strict=False)) | self.named
        odd = sorted(set(given) - set(order))
        missing = [name for name in names if name not in given]
        if odd or missing or len(self.positional) > len(order) or set(order[: len(self.positional)]) & set(self.named):
            wanted = ", ".join([*names, *(f"{name}={value!r}" for name, value in defaults.items())])
            raise InvalidParameters(f'"{self.text}": expected {self.name}({wanted})')
        return [given.get(name, defaults.get(name)) for name in order]

    def refuse(self, expected: str) -> InvalidParameters:
        return InvalidParameters(f'"{self.text}": expected {expected}')


def _parsed(text: str) -> _Arguments:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        function, arguments, keywords = (tree.func, tree.args, tree.keywords) if isinstance(tree, ast.Call) else (tree, [], [])
        name = function.attr if isinstance(function, ast.Attribute) else function.id  # type: ignore[attr-defined]
        positional = tuple(_literal(each) for each in arguments)
        named = {str(each.arg): _literal(each.value) for each in keywords}
    except (SyntaxError, ValueError, AttributeError, TypeError, RecursionError, MemoryError) as error:
        raise InvalidParameters(f'"{text}" is not a transform with literal arguments, such as "Resize((32, 32))"') from error
    if name not in _STEPS and name not in {"ToTensor", "Normalize"}:
        hint = nearest(name, [*_STEPS, "ToTensor", "Normalize"])
        why = f"; {_RANDOM}" if name.startswith("Random") else f"; {hint}" if hint else ""
        raise InvalidParameters(f'"{text}": accepted are {_ACCEPTED}{why}')
    return _Arguments(name, named, positional, text)


def _literal(node: ast.expr) -> Any:
    """A literal, or the last part of a name such as ``InterpolationMode.BICUBIC``."""
    return node.attr.lower() if isinstance(node, ast.Attribute) else ast.literal_eval(node)


def _normalisation(call: _Arguments) -> tuple[tuple[float, ...], tuple[float, ...]]:
    mean, std, _ = call.bound("mean", "std", inplace=False)
    pair = [list(each) if isinstance(each, list | tuple) else [each] for each in (mean, std)]
    shown = call.text or f"mean {mean}, std {std}"
    if not all(isinstance(each, int | float) and not isinstance(each, bool) for each in pair[0] + pair[1]):
        raise InvalidParameters(f'"{shown}": mean and std must be numbers, one for each channel')
    if len(pair[0]) != len(pair[1]) or not pair[0]:
        raise InvalidParameters(f'"{shown}": {len(pair[0])} means for {len(pair[1])} standard deviations')
    if not all(each > 0 for each in pair[1]):
        raise InvalidParameters(f'"{shown}": standard deviations must be above 0')
    return tuple(float(each) for each in pair[0]), tuple(float(each) for each in pair[1])


def _size(call: _Arguments, value: Any) -> int | tuple[int, int]:
    sides = [value] if isinstance(value, int) else list(value) if isinstance(value, list | tuple) else []
    if len(sides) not in {1, 2} or not all(isinstance(side, int) and side > 0 for side in sides):
        raise call.refuse(f"{call.name} with a size, such as {call.name}((32, 32))")
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _resize(call: _Arguments) -> Callable[[Any], Any]:
    value, interpolation, _, _ = call.bound("size", interpolation="bilinear", max_size=None, antialias=True)
    size = _size(call, value)
    method = _FILTERS.get(str(interpolation), interpolation)
    if method not in _FILTERS.values() or call.named.get("max_size") is not None:
        raise call.refuse(f"an interpolation of {', '.join(_FILTERS)} and no max_size")

    def resized(picture: Any) -> Any:
        width, height = picture.size
        if isinstance(size, tuple):
            target = (size[1], size[0])
        else:
            # The shorter side gets the size, and the longer one keeps the proportions.
            shorter, longer = sorted((width, height))
            other = int(size * longer / shorter)
            target = (size, other) if width <= height else (other, size)
        return picture if target == (width, height) else picture.resize(target, method)

    return resized


def _center_crop(call: _Arguments) -> Callable[[Any], Any]:
    size = _size(call, call.bound("size")[0])
    rows, columns = (size, size) if isinstance(size, int) else size

    def cropped(picture: Any) -> Any:
        width, height = picture.size
        if rows > height or columns > width:
            raise DataError(f'"{call.text}": a picture has {height}×{width} pixels (height × width) only; resize it first')
        top, left = round((height - rows) / 2.0), round((width - columns) / 2.0)
        return picture.crop((left, top, left + columns, top + rows))

    return cropped


def _grayscale(call: _Arguments) -> Callable[[Any], Any]:
    (channels,) = call.bound(num_output_channels=1)
    if channels not in {1, 3}:
        raise call.refuse("1 or 3 channels")
    return lambda picture: picture.convert("L") if channels == 1 else picture.convert("L").convert("RGB")


_STEPS: dict[str, Callable[[_Arguments], Callable[[Any], Any]]] = {
    "Resize": _resize,
    "CenterCrop": _center_crop,
    "Grayscale": _grayscale,
}
