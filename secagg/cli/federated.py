"""The demo's learning: data that ships with scikit-learn, split unevenly, and softmax regression in NumPy.

Nothing here knows of the protocol: clients train, updates are averaged, by whatever means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

Floats: TypeAlias = npt.NDArray[np.float64]
Labels: TypeAlias = npt.NDArray[np.int64]
Model: TypeAlias = dict[str, Floats]
"""``weight``, shape (features, classes), and ``bias``, shape (classes,); an update is the change of one."""

UpdateOf: TypeAlias = Callable[[int], Model]
"""A client's update in some round."""
MeanOf: TypeAlias = Callable[[int, UpdateOf], Model]
"""The mean update of a round, given its number and what makes a client's update."""

_BATCH: Final = 16
"""Samples in one step of gradient descent.  The demo compares ways to average, for which any number serves."""


class DataName(StrEnum):
    """The data sets of the demo."""

    BREAST_CANCER = "breast-cancer"
    DIGITS = "digits"


@dataclass(frozen=True, slots=True)
class Samples:
    """Features, shape (samples, features), and their labels, shape (samples,)."""

    features: Floats
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A data set split over clients.

    Attributes:
        title: for a person.
        members: what its clients are called.
        clients: each one's samples; their numbers differ.
        pooled: all of them, as a central training would have them.
        test: on which accuracy is measured.
        rate: of the gradient steps.
        epochs: of local training in a round.
        clip: the largest change of a parameter in a round that is kept.
        norm: what an update's L2 norm is shortened to in private rounds: about half of what it is at first.
        max_weight: a bound on a client's samples that everybody knows; the numbers themselves stay hidden.
    """

    title: str
    members: str
    clients: list[Samples]
    pooled: Samples
    test: Samples
    rate: float
    epochs: int
    clip: float
    norm: float
    max_weight: int

    def start(self) -> Model:
        """The model before the first round."""
        features, classes = self.pooled.features.shape[1], int(self.pooled.labels.max()) + 1
        return {"weight": np.zeros((features, classes)), "bias": np.zeros(classes)}


def load(name: DataName, seed: int) -> Problem:
    """The data set, shuffled and split by the seed."""
    if name is DataName.BREAST_CANCER:
        train, test = _prepared(load_breast_cancer(), seed)
        return Problem(
            title="Breast cancer (569 tumours, 30 features) over hospitals of unequal size",
            members="hospitals",
            clients=_by_size(train, 12, seed),
            pooled=train,
            test=test,
            rate=0.1,
            epochs=2,
            clip=0.5,
            norm=0.2,
            max_weight=128,
        )
    train, test = _prepared(load_digits(), seed)
    return Problem(
        title="Handwritten digits (1,797 pictures of 8 x 8) over people who each wrote only some of them",
        members="people",
        clients=_by_label(train, 40, seed),
        pooled=train,
        test=test,
        rate=0.1,
        epochs=5,
        clip=0.5,
        norm=0.5,
        max_weight=128,
    )


def trained(model: Model, samples: Samples, problem: Problem, draw: np.random.Generator) -> Model:
    """The model after some epochs of stochastic gradient descent on the samples."""
    weight, bias = model["weight"].copy(), model["bias"].copy()
    wanted = np.eye(len(bias))[samples.labels]
    for _ in range(problem.epochs):
        order = draw.permutation(len(samples))
        for start in range(0, len(order), _BATCH):
            batch = order[start : start + _BATCH]
            features = samples.features[batch]
            slope = (_probabilities(features @ weight + bias) - wanted[batch]) / len(batch)
            weight -= problem.rate * features.T @ slope
            bias -= problem.rate * slope.sum(axis=0)
    return {"weight": weight, "bias": bias}


def change(before: Model, after: Model) -> Model:
    """The update that leads from one model to another."""
    return {name: after[name] - before[name] for name in before}


def moved(model: Model, update: Model) -> Model:
    """The model that an update leads to."""
    return {name: model[name] + update[name] for name in model}


def flat(model: Model) -> Floats:
    """All of a model's or an update's values as one vector, shape (parameters,)."""
    return np.concatenate([values.ravel() for values in model.values()])


def shaped(vector: Floats, like: Model) -> Model:
    """The model or update that ``flat`` makes the vector of, named and shaped as another one."""
    ends = np.cumsum([values.size for values in like.values()])[:-1]
    parts = np.split(vector, ends)
    return {name: part.reshape(like[name].shape) for name, part in zip(like, parts, strict=True)}


def clipped(update: Model, clip: float) -> Model:
    """The update with every value in -clip .. clip."""
    return {name: np.clip(values, -clip, clip) for name, values in update.items()}


def weighted_mean(updates: Iterable[tuple[Model, int]]) -> Model:
    """The mean of the updates, each counted as often as its weight says."""
    listed = list(updates)
    weights = np.array([weight for _, weight in listed], dtype=np.float64)
    return {name: np.average([update[name] for update, _ in listed], axis=0, weights=weights) for name in listed[0][0]}


def norm(update: Model) -> float:
    """The L2 norm of a whole update."""
    return float(np.sqrt(sum(float(np.sum(values**2)) for values in update.values())))


def shortened(update: Model, longest: float) -> Model:
    """The update, multiplied so that its L2 norm is at most ``longest``."""
    length = norm(update)
    return {name: values * (longest / length) for name, values in update.items()} if length > longest else update


def noisy_mean(updates: Iterable[Model], longest: float, sigma: float, draw: np.random.Generator) -> Model:
    """The mean of the shortened updates, after a server that everybody trusts has added Gaussian noise to the sum.

    Args:
        updates: one a client.
        longest: the L2 norm that each is shortened to.
        sigma: standard deviation of the noise in each coordinate of the sum; 0 for none.
        draw: of the noise.
    """
    listed = [shortened(update, longest) for update in updates]
    return {
        name: (sum(update[name] for update in listed) + sigma * draw.standard_normal(values.shape)) / len(listed)
        for name, values in listed[0].items()
    }


def train(problem: Problem, rounds: int, mean_of: MeanOf, seed: int, step: float = 1.0) -> list[float]:
    """The accuracy on test data before the first round of federated averaging, and after each.

    Args:
        problem: what to learn.
        rounds: how many.
        mean_of: averages a round's updates by whatever means: it gets the round's number, and what makes a client's
            update from the model of the round.
        seed: of local training.
        step: what the mean update is multiplied by before the model moves.
    """
    model = problem.start()
    reached = [accuracy(model, problem.test)]
    for number in range(rounds):

        def update_of(client: int, model: Model = model, number: int = number) -> Model:
            draw = np.random.default_rng([seed, number, client])
            return change(model, trained(model, problem.clients[client], problem, draw))

        mean = mean_of(number, update_of)
        model = moved(model, {name: step * values for name, values in mean.items()})
        reached.append(accuracy(model, problem.test))
    return reached


def difference(one: Model, other: Model) -> float:
    """The largest absolute difference of a parameter."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def accuracy(model: Model, samples: Samples) -> float:
    """The share of the samples whose label the model finds."""
    return float((labels_of(model, samples) == samples.labels).mean())


def labels_of(model: Model, samples: Samples) -> Labels:
    """The label that the model finds for each sample, shape (samples,)."""
    found: Labels = (samples.features @ model["weight"] + model["bias"]).argmax(axis=1)
    return found


def _probabilities(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    normalised: Floats = powers / powers.sum(axis=1, keepdims=True)
    return normalised


def _prepared(data: Any, seed: int) -> tuple[Samples, Samples]:
    """Train and test samples; features have mean 0 and spread 1, as if the clients had agreed on both beforehand."""
    features, labels = np.asarray(data.data, np.float64), np.asarray(data.target, np.int64)
    spread = features.std(axis=0)
    features = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    train, test, train_labels, test_labels = train_test_split(
        features, labels, test_size=0.3, random_state=seed, stratify=labels
    )
    return Samples(train, train_labels), Samples(test, test_labels)


def _by_size(samples: Samples, clients: int, seed: int) -> list[Samples]:
    """Shares of very different sizes, the largest some ten times the smallest."""
    sizes = np.geomspace(1.0, 10.0, clients)
    bounds = np.rint(np.concatenate(([0.0], sizes.cumsum() / sizes.sum())) * len(samples)).astype(int)
    order = np.random.default_rng([seed, 1]).permutation(len(samples))
    return [_part(samples, order[low:high]) for low, high in pairwise(bounds.tolist())]


def _by_label(samples: Samples, clients: int, seed: int) -> list[Samples]:
    """Each client has some labels much more often than others, and some not at all."""
    draw = np.random.default_rng([seed, 2])
    owner = np.empty(len(samples), dtype=np.int64)
    for label in np.unique(samples.labels):
        mine = np.flatnonzero(samples.labels == label)
        owner[mine] = draw.choice(clients, len(mine), p=draw.dirichlet(np.full(clients, 0.3)))
    for client in range(clients):  # nobody is left without a sample
        if not (owner == client).any():
            owner[draw.choice(np.flatnonzero(owner == np.bincount(owner).argmax()))] = client
    return [_part(samples, np.flatnonzero(owner == client)) for client in range(clients)]


def _part(samples: Samples, rows: npt.NDArray[np.int64]) -> Samples:
    return Samples(samples.features[rows], samples.labels[rows])
