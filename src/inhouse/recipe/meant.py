"""Names that other programs have for what a recipe calls otherwise, and the key that whoever writes one means."""

from typing import NamedTuple


class Meant(NamedTuple):
    """A key of a recipe, by its table, and what it does where that is not what the name that was tried says."""

    section: str
    key: str
    what: str = ""


_LENGTH = ("seq_len", "seq_length", "max_seq_len", "max_seq_length", "max_length", "block_size", "context_length")
_STEPS = ("steps", "max_steps", "num_steps", "train_steps", "total_steps", "iterations", "iters", "max_iters")
_BATCH = ("batch_size", "global_batch_size", "train_batch_size", "total_batch_size")
_MICRO = (
    "micro_batch", "micro_batch_size", "device_batch_size", "per_device_train_batch_size", "accumulation_steps",
    "gradient_accumulation_steps", "grad_accum",
)  # fmt: skip


def _training(section: str) -> dict[str, Meant]:
    """Of the tables of the two stages that train."""
    rates = Meant(section, "lr_factor", "multiplies all learning rates")
    length = Meant(section, "sequence_length")
    batch = Meant(section, "batch_tokens", "counts the tokens of a step, not its sequences")
    micro = Meant(section, "micro_batch_tokens", "counts the tokens of one forward pass")
    saves = Meant(section, "checkpoint_every")
    return {
        **dict.fromkeys(("lr", "learning_rate", "max_lr", "peak_lr", "base_lr"), rates),
        **dict.fromkeys((*_LENGTH, "context", "n_ctx"), length),
        **dict.fromkeys(_BATCH, batch),
        **dict.fromkeys(_MICRO, micro),
        **dict.fromkeys(("save_every", "save_steps", "save_interval", "checkpoint_interval"), saves),
        **dict.fromkeys(("log_steps", "logging_steps", "log_interval"), Meant(section, "log_every")),
        **dict.fromkeys(("eval_every", "eval_steps", "eval_interval", "val_every"), Meant(section, "validate_every")),
        **dict.fromkeys(("warmup", "warmup_iters", "lr_warmup"), Meant(section, "warmup_steps")),
        **dict.fromkeys(("dtype", "mixed_precision", "bf16", "fp16", "fp8", "float8"), Meant(section, "precision")),
        **dict.fromkeys(("wd", "l2"), Meant(section, "weight_decay")),
        **dict.fromkeys(("gpu", "accelerator"), Meant(section, "device")),
    }


def _model() -> dict[str, Meant]:
    names: dict[str, tuple[str, ...]] = {
        "depth": ("layers", "n_layers", "n_layer", "num_layers", "num_hidden_layers", "blocks", "n_blocks"),
        "hidden_size": ("width", "d_model", "n_embd", "dim", "hidden_dim", "embed_dim", "hidden"),
        "num_heads": ("heads", "n_heads", "n_head", "num_attention_heads"),
        "num_kv_heads": ("kv_heads", "n_kv_heads", "num_key_value_heads"),
        "intermediate_size": ("ffn_dim", "d_ff", "ffn_hidden_size", "mlp_dim"),
        "context": (*_LENGTH, "n_ctx", "n_positions", "max_position_embeddings", "context_size", "context_window"),
        "num_experts": ("experts", "n_experts", "num_local_experts", "n_routed_experts"),
        "num_experts_per_token": ("top_k", "num_experts_per_tok", "experts_per_token"),
        "num_shared_experts": ("shared_experts", "n_shared_experts"),
        "architecture": ("arch", "type", "model_type", "kind"),
        "sliding_window": ("window", "window_size"),
        "rope_theta": ("rope_base", "theta"),
    }
    return {name: Meant("model", key) for key, tried in names.items() for name in tried}


_SOURCES = Meant("data", "sources", "is a list of tables: [[data.sources]] with name, path and licence")
_PLACE = Meant("data.sources", "path")
_TOKENS = Meant("pretrain", "tokens", "counts what is trained on; a step takes batch_tokens of them")
_PASSES = Meant(
    "pretrain", "tokens", "counts what is trained on; the dry run says how many passes over the text that is"
)
_VOCABULARY = Meant("tokenizer", "vocab_size")
_HELD_OUT = Meant("data", "holdout_one_in", "of so many documents holds one out")

# by the table in which a name was written; "" is the top of the recipe
MEANT: dict[str, dict[str, Meant]] = {
    "": {
        **dict.fromkeys(("train", "training", "pretraining", "trainer", "optimizer", "optim"), Meant("", "pretrain")),
        **dict.fromkeys(("mid_train", "midtraining", "mid_training", "annealing"), Meant("", "midtrain")),
        **dict.fromkeys(("finetune", "fine_tune", "finetuning", "chat", "posttrain"), Meant("", "sft")),
        **dict.fromkeys(("grpo", "ppo", "rlhf", "rlvr", "reinforce", "climb"), Meant("", "rl")),
        **dict.fromkeys(("dataset", "datasets", "corpus", "text"), Meant("", "data")),
        **dict.fromkeys(("eval", "evaluation"), Meant("", "evaluate")),
        **dict.fromkeys(("run", "run_name", "output", "output_dir"), Meant("", "name", "names the run's folder")),
    },
    "pretrain": {
        **_training("pretrain"),
        **dict.fromkeys(_STEPS, _TOKENS),
        **dict.fromkeys(("epochs", "num_epochs", "num_train_epochs", "passes"), _PASSES),
        **dict.fromkeys(("num_tokens", "max_tokens", "total_tokens", "train_tokens"), _TOKENS),
    },
    "midtrain": {
        **_training("midtrain"),
        **dict.fromkeys(_STEPS, Meant("midtrain", "tokens", "counts what is trained on")),
    },
    "sft": {
        **_training("sft"),
        **dict.fromkeys(_STEPS, Meant("sft", "epochs", "says how often every conversation is seen")),
        **dict.fromkeys(("num_epochs", "num_train_epochs", "passes"), Meant("sft", "epochs")),
        **dict.fromkeys(("dataset", "datasets", "data", "messages", "files", "path"), Meant("sft", "conversations")),
    },
    "rl": {
        **_training("rl"),
        **dict.fromkeys(_STEPS[1:], Meant("rl", "steps")),
        **dict.fromkeys(("env", "envs", "environment", "generated", "tasks", "dataset"), Meant("rl", "environments")),
        **dict.fromkeys(("group_size", "num_generations", "n", "rollouts"), Meant("rl", "samples")),
        **dict.fromkeys(_BATCH, Meant("rl", "prompts", "counts the problems of a step")),
        **dict.fromkeys(("max_new_tokens", "max_completion_length", *_LENGTH), Meant("rl", "max_tokens")),
        **dict.fromkeys(("eval_every", "eval_steps", "eval_interval", "val_every"), Meant("rl", "evaluate_every")),
    },
    "model": _model() | dict.fromkeys(("vocab", "vocabulary", "n_vocab"), _VOCABULARY),
    "tokenizer": dict.fromkeys(("vocab", "vocabulary", "size", "n_vocab", "vocabulary_size"), _VOCABULARY),
    "data": {
        **dict.fromkeys(("dataset", "datasets", "source", "path", "paths", "files", "folder", "dir"), _SOURCES),
        **dict.fromkeys(("val_split", "validation_split", "test_size", "holdout", "valid", "val"), _HELD_OUT),
    },
    "data.sources": dict.fromkeys(("file", "files", "folder", "dir", "directory", "url", "location"), _PLACE),
    "parallel": {
        **dict.fromkeys(
            ("gpus", "num_gpus", "nproc", "nproc_per_node", "world_size", "devices", "processes", "fsdp"),
            Meant("parallel", "shard", "is how many processes share the weights, each with sequences of its own"),
        ),
        **dict.fromkeys(("data_parallel", "dp", "ddp"), Meant("parallel", "replicate")),
        **dict.fromkeys(("expert_parallel", "ep"), Meant("parallel", "experts")),
        **dict.fromkeys(("context_parallel", "cp", "sequence_parallel"), Meant("parallel", "context")),
        **dict.fromkeys(("activation_checkpointing", "gradient_checkpointing"), Meant("parallel", "recompute")),
    },
    "cluster": {
        **dict.fromkeys(("partition",), Meant("cluster", "queue")),
        **dict.fromkeys(("time", "time_limit", "hours"), Meant("cluster", "time_limit_hours")),
        **dict.fromkeys(("container",), Meant("cluster", "image")),
        **dict.fromkeys(("nodes", "num_nodes"), Meant("parallel", "shard", "says how many processes there are")),
    },
}  # fmt: skip


def meant_in(section: str, tried: str) -> Meant | None:
    """The key that `tried` means where it was written in the table `section`."""
    return MEANT.get(section, {}).get(tried)


def meant_elsewhere(tried: str) -> Meant | None:
    """The key that `tried` means in any other table, the first in the order of the pipeline."""
    return next((names[tried] for names in MEANT.values() if tried in names), None)
