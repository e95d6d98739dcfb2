"""Tells which task a request is: TF-IDF of hashed words and letters, multinomial logistic regression. numpy alone."""

from collections.abc import Sequence
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np

from inhouse.common.files import write_atomic
from inhouse.gateway.routing import features, prompts
from inhouse.gateway.routing.prompts import Example, own_examples, read_labels

# N examples, F features, C tasks
_PENALTY = 3e-6
_FEWEST = 2  # examples that a feature must be in: what nearly none has would only drown the others
_STEPS = 300


class Guess(NamedTuple):
    """`task` is the likeliest, however unlikely."""

    task: str
    confidence: float


class TaskClassifier:
    """`guess` takes well under a millisecond."""

    def __init__(self, tasks: Sequence[str], idf_F: np.ndarray, weight_CF: np.ndarray, bias_C: np.ndarray) -> None:
        self.tasks, self._idf_F, self._bias_C = tuple(tasks), idf_F, bias_C
        self._weight_FC = np.ascontiguousarray(weight_CF.T)

    def guess(self, text: str) -> Guess:
        counts_F = features.counts_of(text)
        (found,) = (counts_F != 0).nonzero()  # some hundreds of the features; of numbers it takes four times as long
        x_F = np.log1p(counts_F[found].astype(np.float32)) * self._idf_F[found]
        words = int(found.searchsorted(features.WORDS))
        for half in (x_F[:words], x_F[words:]):  # as `_normed`, of one text
            half /= max(float(half @ half) ** 0.5, 1e-6)
        scores_C = x_F @ self._weight_FC.take(found, axis=0) + self._bias_C
        odds_C = np.exp(scores_C - scores_C.max())
        best = int(odds_C.argmax())
        return Guess(self.tasks[best], float(odds_C[best] / odds_C.sum()))


def open_classifier(folder: Path, labels: Path | None = None) -> TaskClassifier:
    """Trained on the project's own prompts and on the labels, or read from the folder where the same was kept.

    Raises `ValueError` naming file and line where the labels are none.
    """
    examples = [*own_examples(), *(read_labels(labels) if labels else ())]
    kept = folder / f"tasks-{_digest(examples)}.npz"
    if (known := _read(kept)) is not None:
        return known
    trained = train(examples)
    _write(kept, trained)
    return trained


def train(examples: Sequence[Example]) -> TaskClassifier:
    """The same examples give the same classifier. Every task counts alike, however many examples it has."""
    tasks = sorted({example.task for example in examples})
    counts_NF = np.stack([features.counts_of(example.text).astype(np.float32) for example in examples])
    found_F = (counts_NF > 0).sum(0)
    idf_F = (np.log((1 + len(examples)) / (1 + found_F)).astype(np.float32) + 1) * (found_F >= _FEWEST)
    x_NF = _normed(counts_NF, idf_F)
    label_N = np.array([tasks.index(example.task) for example in examples])
    weight_CF, bias_C = _fit(x_NF, np.eye(len(tasks), dtype=np.float32)[label_N])
    return TaskClassifier(tasks, idf_F, weight_CF, bias_C)


def _normed(counts_NF: np.ndarray, idf_F: np.ndarray) -> np.ndarray:
    """Words, the first features, and letters have the same say: each part has the length 1."""
    x_NF = np.log1p(counts_NF) * idf_F
    for half in (x_NF[:, : features.WORDS], x_NF[:, features.WORDS :]):
        half /= np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-6)
    return x_NF


def _fit(x_NF: np.ndarray, label_NC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logistic regression by Nesterov's accelerated gradient, the weights held as mixtures of the examples: far fewer
    examples than features make a step so cheap that all of it takes less than a second."""
    share_N1 = (1 / (label_NC.sum(0)[label_NC.argmax(1)] * label_NC.shape[1]))[:, None]
    gram_NN = x_NF @ x_NF.T + 1  # the 1 is the bias
    rate = 1 / (0.5 * _largest_eigenvalue(gram_NN * np.sqrt(share_N1 * share_N1.T)) + _PENALTY)
    mix_NC = ahead_NC = np.zeros_like(label_NC)
    momentum = 1.0
    for _ in range(_STEPS):
        scores_NC = gram_NN @ ahead_NC
        odds_NC = np.exp(scores_NC - scores_NC.max(1, keepdims=True))
        error_NC = share_N1 * (odds_NC / odds_NC.sum(1, keepdims=True) - label_NC)
        last_NC, mix_NC = mix_NC, ahead_NC - rate * (error_NC + _PENALTY * ahead_NC)
        last, momentum = momentum, (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead_NC = mix_NC + (last - 1) / momentum * (mix_NC - last_NC)
    return mix_NC.T @ x_NF, mix_NC.sum(0)


def _largest_eigenvalue(matrix_NN: np.ndarray) -> float:
    vector_N = np.ones(len(matrix_NN), matrix_NN.dtype)
    for _ in range(20):
        vector_N = matrix_NN @ (vector_N / np.linalg.norm(vector_N))
    return float(np.linalg.norm(vector_N)) * 1.05  # power iteration ends a little below it


def _digest(examples: Sequence[Example]) -> str:
    """Of all that a classifier hangs on: the examples, and the code."""
    code = b"".join(Path(module).read_bytes() for module in (__file__, features.__file__, prompts.__file__))
    return sha256(code + repr([tuple(example) for example in examples]).encode()).hexdigest()[:16]


def _read(file: Path) -> TaskClassifier | None:
    try:
        with np.load(file, allow_pickle=False) as kept:
            parts = [kept[name] for name in ("tasks", "idf", "weight", "bias")]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # none, or broken
        return None
    return TaskClassifier([str(task) for task in parts[0]], *parts[1:])


def _write(file: Path, classifier: TaskClassifier) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    buffer = BytesIO()
    names = np.array(classifier.tasks)
    np.savez(buffer, tasks=names, idf=classifier._idf_F, weight=classifier._weight_FC.T, bias=classifier._bias_C)
    write_atomic(file, buffer.getvalue())
