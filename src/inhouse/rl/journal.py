"""Rollouts and verdicts of every step, kept so that a climb that is resumed reads them instead of sampling again.

A step is a folder: `groups.jsonl` (problems, texts, grades, rewards; a line a group), `tried.json` (what became of all
problems), `arrays.safetensors` (tokens, log-probabilities, what truncation kept, experts; all rollouts one after
another), and `step.json` with the digests of these, of the weights that sampled and of the settings. It appears by one
rename, whole.
"""

import json
import re
import shutil
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from inhouse.common.files import digests, read_json, sync_file, sync_folder, write_json
from inhouse.environments.environment import Grade, Problem
from inhouse.rl.rollouts import Group, Kept, Rollout
from inhouse.rl.sampling import Sampled, Tried

GROUPS, TRIED, ARRAYS, STEP = "groups.jsonl", "tried.json", "arrays.safetensors", "step.json"


_FOLDER = re.compile(r"[0-9]{8}")


class _Other(Exception):
    """Whole rollouts, but of another climb."""


class Journal:
    """The steps' folders below `folder`; steps are counted from 0.

    `climb` is a digest of what decides what is sampled beside the weights: steps of another climb are refused. Whoever
    only reads has none.
    """

    def __init__(self, folder: Path, climb: str | None = None) -> None:
        self.folder, self.climb = folder, climb

    @property
    def steps(self) -> list[int]:
        """Those that are there, in order."""
        if not self.folder.is_dir():
            return []
        return sorted(
            int(path.name) for path in self.folder.iterdir() if _FOLDER.fullmatch(path.name) and path.is_dir()
        )

    def path(self, step: int) -> Path:
        return self.folder / f"{step:08}"

    def write(self, step: int, sampled: Sampled, weights: str) -> None:
        """Keep a step's rollouts; `weights`: a digest of those that sampled it. What stood there is replaced."""
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.folder / f".{step:08}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        lines = [json.dumps(_group_line(group), allow_nan=False) for group in sampled.groups]
        (partial / GROUPS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        others = {"tried": [each._asdict() for each in sampled.tried], **_others(sampled)}
        (partial / TRIED).write_text(json.dumps(others, allow_nan=False) + "\n", encoding="utf-8")
        rollouts = list(chain.from_iterable(group.rollouts for group in sampled.groups))
        save_file(_arrays(rollouts), partial / ARRAYS)
        found = digests(partial)
        for name in found:
            sync_file(partial / name)
        write_json(partial / STEP, {"step": step, "weights": weights, "climb": self.climb, "files": found})
        if self.path(step).exists():
            self._remove(step)
        partial.rename(self.path(step))
        sync_folder(self.folder)

    def read(self, step: int, weights: str | None = None) -> Sampled | None:
        """What `write` was given, to the bit; None where the step is not there.

        Raises `ValueError` where the folder is damaged, or of another climb, or other weights than those of this digest
        sampled it.
        """
        folder = self.path(step)
        if not folder.is_dir():
            return None
        try:
            return self._read(folder, weights)
        except _Other as error:
            raise ValueError(str(error)) from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{folder}: rollouts are damaged; remove the folder, and they are sampled again ({error})"
            ) from error

    def _read(self, folder: Path, weights: str | None) -> Sampled:
        found, said = digests(folder), {}
        if found.pop(STEP, None) is not None:
            said = read_json(folder / STEP)
        if said.get("files") != found:
            raise ValueError("their digests differ")
        if weights is not None and said["weights"] != weights:
            raise _Other(
                f"{folder}: other weights than those of this climb sampled these rollouts; remove {self.folder}"
            )
        if self.climb not in (None, said.get("climb")):
            raise _Other(
                f"{folder}: these rollouts are of a climb with other settings, problems or another seed; give another "
                f"folder, or remove {self.folder}"
            )
        try:
            arrays = load_file(folder / ARRAYS)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"{ARRAYS}: {error}") from error
        others = read_json(folder / TRIED)
        tried = [Tried(**each) for each in others.pop("tried")]
        take, groups = _Reader(arrays), []
        with (folder / GROUPS).open(encoding="utf-8") as lines:
            for line in lines:
                groups.append(_group(json.loads(line), take))
        return Sampled(groups, tried, **others)

    def _remove(self, step: int) -> None:
        """By a rename first: a folder that is half gone is not a step."""
        gone = self.folder / f".{step:08}.gone"
        shutil.rmtree(gone, ignore_errors=True)
        self.path(step).rename(gone)
        shutil.rmtree(gone)


def _others(sampled: Sampled) -> dict[str, Any]:
    return {name: value for name, value in sampled._asdict().items() if name not in ("groups", "tried")}


def _group_line(group: Group) -> dict[str, Any]:
    return {
        "environment": group.environment,
        "problem": group.problem._asdict(),
        "grades": [grade._asdict() for grade in group.grades],
        "rewards": [float(reward) for reward in group.rewards],
        "rollouts": [
            {
                "text": rollout.text,
                "finish_reason": rollout.finish_reason,
                "weights_step": rollout.weights_step,
                "earlier": rollout.earlier,
                "prompt": len(rollout.prompt_ids),
                "tokens": len(rollout.token_ids),
                "kept": None if rollout.kept is None else [len(rollout.kept.ids), len(rollout.kept.ends)],
                "has_experts": rollout.experts is not None,
            }
            for rollout in group.rollouts
        ],
    }


def _group(said: dict[str, Any], take: "_Reader") -> Group:
    rollouts = []
    for each in said["rollouts"]:
        num_prompt, num_tokens = each.pop("prompt"), each.pop("tokens")
        kept, has_experts = each.pop("kept"), each.pop("has_experts")
        rollouts.append(
            Rollout(
                prompt_ids=take("prompt_ids", num_prompt).tolist(),
                token_ids=take("token_ids", num_tokens).tolist(),
                is_sampled=take("is_sampled", num_tokens),
                sampler_logprobs=take("sampler_logprobs", num_tokens),
                kept=None if kept is None else Kept(take("kept_ids", kept[0]), take("kept_ends", kept[1])),
                experts=take("experts", num_prompt + num_tokens - 1) if has_experts else None,
                **each,
            )
        )
    problem = Problem(**said["problem"])
    return Group(said["environment"], problem, rollouts, [Grade(**each) for each in said["grades"]], said["rewards"])


class _Stored(NamedTuple):
    """How one part of a rollout lies in the file: its type, and where it is in a rollout (None: it has none)."""

    dtype: type
    of: Callable[[Rollout], Any]


_STORED = {
    "prompt_ids": _Stored(np.int32, lambda rollout: rollout.prompt_ids),
    "token_ids": _Stored(np.int32, lambda rollout: rollout.token_ids),
    "is_sampled": _Stored(np.bool_, lambda rollout: rollout.is_sampled),
    "sampler_logprobs": _Stored(np.float32, lambda rollout: rollout.sampler_logprobs),
    "kept_ids": _Stored(np.int32, lambda rollout: rollout.kept and rollout.kept.ids),
    "kept_ends": _Stored(np.int64, lambda rollout: rollout.kept and rollout.kept.ends),
    "experts": _Stored(np.int16, lambda rollout: rollout.experts),
}


def _arrays(rollouts: list[Rollout]) -> dict[str, np.ndarray]:
    arrays = {}
    for name, stored in _STORED.items():
        parts = [part for each in rollouts if (part := stored.of(each)) is not None]
        arrays[name] = np.concatenate([np.asarray(part, stored.dtype) for part in parts] or [np.empty(0, stored.dtype)])
    return arrays


class _Reader:
    """Takes the rollouts' parts in the order in which they were written."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self._arrays, self._places = arrays, dict.fromkeys(arrays, 0)

    def __call__(self, name: str, count: int) -> np.ndarray:
        start = self._places[name]
        self._places[name] = start + count
        return self._arrays[name][start : start + count].copy()
