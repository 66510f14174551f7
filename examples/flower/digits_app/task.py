"""The task: a softmax regression on the digits that ship with scikit-learn, cut into one part a client."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord
from sklearn.datasets import load_digits

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]
Model = dict[str, Floats]

CLASSES = 10
HELD_OUT = 297


@cache
def _digits() -> tuple[Floats, Labels]:
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return (images[order] / 16).astype(np.float32), labels[order]


def partition(number: int, partitions: int) -> tuple[Floats, Labels]:
    """A client's images and labels; later clients have more."""
    images, labels = _digits()
    ends = np.cumsum(np.arange(1, partitions + 1) + 5.0)
    ends = np.concatenate([[0], ends / ends[-1] * (len(labels) - HELD_OUT)]).astype(int)
    return images[ends[number] : ends[number + 1]], labels[ends[number] : ends[number + 1]]


def held_out() -> tuple[Floats, Labels]:
    """Images and labels that no client has."""
    images, labels = _digits()
    return images[-HELD_OUT:], labels[-HELD_OUT:]


def new_model() -> Model:
    """Zeros."""
    return {"weight": np.zeros((64, CLASSES), np.float32), "bias": np.zeros(CLASSES, np.float32)}


def train(model: Model, images: Floats, labels: Labels, learning_rate: float) -> Model:
    """Five epochs of gradient descent; the same result for the same input."""
    weight, bias = model["weight"].copy(), model["bias"].copy()
    wanted = np.eye(CLASSES, dtype=np.float32)[labels]
    for _ in range(5):
        for start in range(0, len(labels), 32):
            batch = slice(start, start + 32)
            error = _softmax(images[batch] @ weight + bias) - wanted[batch]
            weight -= np.float32(learning_rate) * (images[batch].T @ error)
            bias -= np.float32(learning_rate) * error.sum(axis=0)
    return {"weight": weight, "bias": bias}


def poisoned(before: Model, after: Model) -> Model:
    """What an attacker sends: its own update, turned round and multiplied by 10."""
    return {name: before[name] - 10 * (after[name] - before[name]) for name in before}


def to_record(model: Model) -> ArrayRecord:
    """A model as Flower's messages hold it."""
    return ArrayRecord({name: Array(values) for name, values in model.items()})


def from_record(arrays: ArrayRecord) -> Model:
    """And back."""
    return {name: array.numpy() for name, array in arrays.items()}


def accuracy(model: Model, images: Floats, labels: Labels) -> float:
    """The share of images whose digit is found."""
    return float(((images @ model["weight"] + model["bias"]).argmax(axis=1) == labels).mean())


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
