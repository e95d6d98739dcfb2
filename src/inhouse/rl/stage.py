"""The rl stage: a fine-tuned model climbs against environments that check its answers; one model folder."""

import math
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import torch

from inhouse.checkpoint.model_folder import copy_tokenizer, read_config
from inhouse.common.files import digest
from inhouse.common.lineage import digest_of
from inhouse.common.model_paths import model_files
from inhouse.data.tokenizer import Tokenizer
from inhouse.engine.engine import Engine
from inhouse.engine.settings import EngineSettings
from inhouse.environments.registry import checked_environment, file_of
from inhouse.environments.verdicts import Verdicts
from inhouse.model.transformer import Transformer
from inhouse.posttrain.conversations import CONVERSATIONS, TAUGHT
from inhouse.posttrain.lora.adaptation import Adaptation
from inhouse.posttrain.opened_model import read_chat_template, read_generation
from inhouse.posttrain.rows.encode import HELDOUT
from inhouse.rl.journal import Journal
from inhouse.rl.loop.batches import RolloutBatches, max_tokens_at
from inhouse.rl.loop.callbacks import ClimbFigures, HeldoutScores
from inhouse.rl.loop.climb import Climb
from inhouse.rl.loop.rewarding import Rewarding
from inhouse.rl.problems import problems
from inhouse.rl.queue import RolloutQueue
from inhouse.rl.sampling import Asked, Sampled, Sampler
from inhouse.rl.settings import RlSettings, check_climb, row_length
from inhouse.rl.weights import SampledWeights
from inhouse.train.callbacks import default_callbacks
from inhouse.train.step import Batch
from inhouse.train.step_count import trained_shape

ROLLOUTS = "rollouts"  # in the stage's folder: the journal
_OWN_DRAW = 2**31  # added to a recipe's seed, which is less and by which evaluation draws its held-out problems
_OF_FINE_TUNING = (CONVERSATIONS, HELDOUT, TAUGHT)  # what evaluation asks the model of


def climb(settings: RlSettings, base: Path, output: Path, seed: int) -> None:
    """Let the model in the folder `base` climb into `output`, in one process; resumes from `output/checkpoints`, to
    the bit.

    Raises `ValueError` for settings that do not fit the model, a base without a chat template, environments that
    nothing can be learnt from, and where too many verdicts fail.
    """
    template, tokenizer, config = read_chat_template(base), Tokenizer.load(base), read_config(base)
    if template is None:
        raise ValueError(f"{base} has no chat template: a climb begins with a fine-tuned model, which has one")
    check_climb(settings, config.max_position)
    opening = Opening(settings, base, output, seed, tokenizer, template)
    with torch.device("meta"):
        model = Transformer(trained_shape(config, settings))
    adaptation = Adaptation(settings.lora, base, seed)
    adaptation.prepare(model, "rl")
    came_from = {"base": [digest(path) for path in model_files(base)], "problems": _problem_files(settings)}
    with opening.verdicts:
        Climb(
            model, _unread, settings.steps, settings=settings, output=output, name="rl",
            run_identity={"seed": seed, **came_from},
            callbacks=[ClimbFigures(), opening.scores(), *default_callbacks()],
            init_weights=adaptation.begin, open_rollouts=opening.rollouts,
        ).run()  # fmt: skip
    copy_tokenizer(base, output)
    for name in _OF_FINE_TUNING:
        if (base / name).is_file():
            shutil.copyfile(base / name, output / name)
    adaptation.save(model, output)


class Opening:
    """What a climb of the model in `base` samples with. Raises `ValueError` where an environment has no problems."""

    def __init__(
        self, settings: RlSettings, base: Path, output: Path, seed: int, tokenizer: Tokenizer, template: str
    ) -> None:
        self.settings, self.output, self.seed = settings, output, seed
        self.tokenizer, self.template, self.end_ids = tokenizer, template, read_generation(base).end_ids
        self.questions = heldout_problems(settings, seed)
        self.verdicts = Verdicts(settings.workers, settings.verifier_seconds, settings.most_failures)

    def scores(self) -> HeldoutScores:
        return HeldoutScores(self.tokenizer, self.template, self.questions, self.verdicts.grade)

    def rollouts(self, climb: Climb) -> RolloutBatches:
        """Those of a climb whose learner stands: an engine of its weights, and the queue of what that samples."""
        settings, length = self.settings, row_length(self.settings, climb.model.config.max_position)
        weights = SampledWeights(climb.model, settings.compile)
        engine = self._engine(weights.model, length)
        sampler = Sampler(
            engine, self.tokenizer, self.template, settings, self.seed, self.verdicts.grade,
            Rewarding(settings.reward, settings.max_tokens), on_phase=climb.supervisor.phase,
        )  # fmt: skip
        most = math.ceil(settings.tried * settings.prompts)

        def sample(number: int) -> Sampled:
            asked = problems(settings.environments, self.seed, number, most)
            return sampler.sample(number, climb.done, asked, max_tokens_at(number, settings))

        journal = Journal(self.output / ROLLOUTS, digest_of(_deciding(climb.run_identity)))
        queue = RolloutQueue(sample, journal, settings.staleness)
        filler = self.tokenizer.end_of_document
        return RolloutBatches(queue, climb.policy, engine, partial(weights.refresh, engine), settings, length, filler)

    def _engine(self, model: Transformer, length: int) -> Engine:
        settings = EngineSettings(
            max_sequences=self.settings.max_sequences, cache_gib=self.settings.cache_gib, compile=self.settings.compile
        )
        return Engine(model, self.tokenizer, settings, self.end_ids, max_context=length)


def _problem_files(settings: RlSettings) -> dict[str, str]:
    """The digest of each file that problems are read from: what it holds may change between two attempts."""
    files = {name: file_of(name) for name in sorted(settings.environments)}
    return {name: digest(path) for name, path in files.items() if path is not None and path.is_file()}


def _deciding(identity: dict[str, Any]) -> dict[str, Any]:
    """Of a climb's identity what decides what is sampled, beside the weights."""
    train = {key: value for key, value in identity["train"].items() if key not in RlSettings.beside_the_result}
    return identity | {"train": train}


def heldout_problems(settings: RlSettings, seed: int) -> list[Asked]:
    """Of each environment, in the order of their names. Raises `ValueError` where one has none.

    The best weights are picked by them, so they are drawn otherwise than those that evaluation reports on.
    """
    found = []
    for name in sorted(settings.environments):
        environment = checked_environment(name)
        drawn = environment.draw("heldout", settings.evaluate_problems, seed + _OWN_DRAW, None)
        own = [Asked(environment, each) for each in drawn]
        if not own:
            raise ValueError(f"[rl] environments: {name} has no held-out problems, so that nobody sees what is learnt")
        found += own
    return found


def _unread(number: int) -> Batch:
    raise AssertionError("a climb's batches are sampled")
