"""What a climb of some minutes gains, beside what its base could do already: form and skill told apart.

    python bench/climb.py RUN [--env strings] [--minutes 6] [--seeds 3] [--problems 200] [--write]

RUN is a run with its stages up to sft, or any fine-tuned folder. The base answers fresh held-out problems many times:
pass@1, 8 and 64, strictly and leniently, where the environment forgives the form. Then a climb for each seed; the gain
is that of `inhouse tune`, whose last weights are kept unless it falls, so that its held-out problems pick none. Bits
per byte of the held-out text before and after, where RUN has one. `--write` puts it into bench/results/climb.md.
"""

import argparse
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from inhouse.common.model_paths import find_model
from inhouse.data.documents import read_documents
from inhouse.environments.registry import environment_of
from inhouse.environments.verdicts import Verdicts
from inhouse.evaluate.bits_per_byte import bits_per_byte
from inhouse.evaluate.score import Score
from inhouse.posttrain.chat_template import CHAT_TEMPLATE
from inhouse.posttrain.opened_model import open_folder, read_chat_template
from inhouse.rl.passes import sampled_passes
from inhouse.rl.sampling import Asked
from inhouse.rl.settings import RlSettings
from inhouse.rl.verbs.tune import Gain, tune

PAGE = Path(__file__).parent / "results" / "climb.md"
KS, MAX_TOKENS, SEED = (1, 8, 64), 128, 2**31 - 1  # no draw of a climb, whose seeds are small


def of_base(folder: Path, env: str, count: int) -> dict[str, Score]:
    """pass@k of the model in `folder` on held-out problems."""
    environment, model = environment_of(env), open_folder(folder)
    asked = [Asked(environment, each) for each in environment.draw("heldout", count, SEED, None)]
    template = read_chat_template(folder) or CHAT_TEMPLATE
    with Verdicts(workers=2) as verdicts:
        return sampled_passes(model.engine(), template, asked, verdicts.grade, KS, MAX_TOKENS, SEED)


def bits(run: Path, folder: Path) -> float | None:
    """Bits per byte of the run's held-out text under the model in `folder`."""
    if not (run / "data").is_dir():
        return None
    opened = open_folder(folder)
    texts = [document.text for document in read_documents(run / "data", "heldout")]
    return bits_per_byte(opened.model, opened.tokenizer, texts, opened.model.config.max_position).value


def lines(
    passes: dict[str, Score], gains: list[Gain], before: float | None, after: list[float | None]
) -> Iterator[str]:
    yield "| what | figure |"
    yield "| --- | --- |"
    for name, score in passes.items():
        error = "" if score.standard_error is None else f" ± {100 * score.standard_error:.1f}"
        yield f"| base, {name} | {100 * score.value:.1f}{error} % of {score.count} |"
    for seed, (gain, now) in enumerate(zip(gains, after, strict=True), 1):
        text = "" if before is None or now is None else f"; bits per byte {before:.4f} to {now:.4f}"
        yield (
            f"| climb, seed {seed}, greedy, exact | {100 * gain.before:.1f} ± {100 * gain.before_error:.1f} to "
            f"{100 * gain.after:.1f} ± {100 * gain.after_error:.1f} % of {gain.num_problems}{text} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--env", default="strings")
    parser.add_argument("--minutes", type=float, default=6.0, help="of each climb")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--problems", type=int, default=200, help="held out")
    parser.add_argument("--write", action="store_true", help="the table into bench/results/climb.md")
    options = parser.parse_args()
    folder = find_model(options.run)
    settings = RlSettings(
        environments={options.env: 1.0}, minutes=options.minutes, steps=10_000, evaluate_problems=options.problems
    )
    passes, before = of_base(folder, options.env, options.problems), bits(options.run, folder)
    gains, after = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(1, options.seeds + 1):
            output = Path(scratch) / str(seed)
            gains += tune(options.run, settings, output, seed)
            after.append(bits(options.run, output))
    told = "\n".join(lines(passes, gains, before, after))
    print(told)
    if options.write:
        command = f"python bench/climb.py RUN --env {options.env} --minutes {options.minutes:g} --seeds {options.seeds}"
        machine = f"{os.cpu_count()} cores ({platform.machine()}), torch {torch.__version__}"
        PAGE.write_text(f"# What a climb gains\n\n    {command} --write\n\n{machine}\n\n{told}\n")


if __name__ == "__main__":
    main()
