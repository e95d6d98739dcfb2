"""A ladder in the terminal: what it will train, its verdict, and the ledger of all of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from inhouse.common.progress import duration, short_count
from inhouse.ladder.efficiency_gain import Gain
from inhouse.ladder.ledger import Entry
from inhouse.ladder.plan import Plan

COLUMNS = (
    "date", "recipe", "tried", "corpus", "gain in FLOPs", "in seconds", "seen from", "up to", "R", "verdict", "commit",
)  # fmt: skip
_ARMS = ("baseline", "candidate")
_NUMBERS = ("depth", "parameters", "active", "tokens", "batch", "rate", "FLOPs")


def rungs_table(plan: Plan) -> Table:
    """Each rung of both recipes; of more corpora than one the sizes are the same."""
    drawn = _table("recipe", *_NUMBERS, "width")
    for arm in next(iter(plan.corpora.values())):
        for rung in arm.rungs(plan.seeds[0]):
            settings, total = rung.recipe.pretrain, rung.config.count_parameters().total
            drawn.add_row(
                arm.name, f"{rung.config.num_layers}", short_count(total), short_count(rung.active),
                short_count(rung.tokens), f"{settings.batch_tokens:,}",
                f"{settings.lr_factor * settings.matrix_lr:.4g}", f"{rung.flops:.3g}", f"{rung.config.hidden_size:,}",
            )  # fmt: skip
        drawn.add_section()
    runs = 2 * len(plan.corpora) * len(plan.depths) * len(plan.seeds)
    drawn.caption = (
        f"{plan.per_parameter:.3g} tokens an active parameter, {len(plan.seeds)} seeds, {runs} runs at most; "
        f"corpora: {', '.join(plan.corpora)}"
    )
    return drawn


def verdict(entry: Entry) -> Iterator[Table | str]:
    """Gains by rung, and the verdict with all that bounds it."""
    for corpus, found in entry["corpora"].items():
        drawn = _table("rung", "baseline", "candidate", "gain in FLOPs", "gain in seconds", title=corpus)
        for number, rung in enumerate(found["rungs"]):
            losses = [_mean(rung[arm]["losses"]) for arm in _ARMS]
            gains = [_gain(found[unit]["gains"][number]) for unit in ("flops", "seconds")]
            drawn.add_row(f"depth {rung['depth']}", *losses, *gains)
        drawn.add_section()
        units = ("flops", "seconds")
        drawn.add_row("all rungs", "", "", *(_gain(found[unit]["overall"]) for unit in units))
        drawn.add_row("× with ten times the compute", "", "", *(_gain(found[unit]["trend"]) for unit in units))
        for number, ahead in enumerate(found["flops"]["ahead"]):
            drawn.add_row(
                f"at 10 × the largest, if E = {ahead['irreducible']:.3g}", "", "",
                *(_gain(found[unit]["ahead"][number]["gain"]) for unit in units),
            )  # fmt: skip
        yield drawn
        yield (f"{law_in_words(found['flops'])}; a run spreads by {found['flops']['deviation']:.4f}")
    yield (f"{entry['verdict']}: {entry['reason']}")
    yield (f"  at {entry['tokens_per_parameter']:.3g} tokens an active parameter; seeds a rung: {entry['seeds']}")
    yield from (f"  {remark}" for remark in entry["remarks"])


def ledger_tables(entries: Sequence[Entry], folder: Path) -> Iterator[Table | str]:
    """What was tried, what it was worth, at what scale, with which commit; then what was foretold."""
    ladders = [entry for entry in entries if entry["kind"] == "ladder"]
    if not ladders:
        yield f"{folder}: no ladder has been climbed yet; inhouse ladder RECIPE --try key=value climbs one"
        return
    drawn = _table(*COLUMNS)
    for row in ladder_rows(ladders):
        drawn.add_row(*row)
    yield drawn
    if outcomes := [entry for entry in entries if entry["kind"] == "outcome"]:
        drawn = _table("foretold", "recipe", "depth", "loss", "came", "error")
        for each in outcomes:
            numbers = (f"{each['foretold']:.4f}", f"{each['loss']:.4f}", f"{100 * each['error']:+.2f} %")
            drawn.add_row(each["ladder"], f"{each['corpus']} {each['arm']}", str(each["depth"]), *numbers)
        yield drawn


def ladder_rows(ladders: Sequence[Entry]) -> Iterator[tuple[str, ...]]:
    """A row for each corpus of each ladder."""
    for entry in ladders:
        code = entry["code"]
        commit = (code.get("commit") or code.get("version") or "")[:10] + ("+" if code.get("modified") else "")
        for corpus, found in entry["corpora"].items():
            largest = found["rungs"][-1]["baseline"]
            yield (
                entry["date"][:10], entry["recipe"], ", ".join(entry["tried"]), corpus,
                *(_gain(found[unit]["overall"]) for unit in ("flops", "seconds")), f"{found['flops']['smallest']:.3f}",
                f"{short_count(largest['parameters'])}, {largest['flops']:.2g} FLOPs",
                f"{entry['tokens_per_parameter']:.3g}", entry["verdict"], commit,
            )  # fmt: skip


def law_in_words(found: dict[str, Any]) -> str:
    """The law of a baseline, as a formula."""
    law = found["law"]
    return f"baseline: L = {law['A']:.3g} (C / {law['unit']:.3g})^-{law['alpha']:.3g} + {law['E']:.3g} bits per byte"


def total_seconds(entry: Entry) -> str:
    """What the steps of all runs of a ladder took, baselines that it shares included."""
    rungs = [rung for found in entry["corpora"].values() for rung in found["rungs"]]
    runs = [rung[arm] for rung in rungs for arm in _ARMS]
    return duration(sum(sum(run["seconds"]) for run in runs))


def _mean(losses: Sequence[float]) -> str:
    mean, count = sum(losses) / len(losses), len(losses)
    if count < 2:
        return f"{mean:.4f} (n = 1)"
    error = (sum((loss - mean) ** 2 for loss in losses) / (count - 1) / count) ** 0.5
    return f"{mean:.4f} ± {error:.4f} (n = {count})"


def _gain(values: Sequence[float]) -> str:
    return str(Gain(*values))


def _table(*columns: str, title: str | None = None) -> Table:
    drawn = Table(box=None, pad_edge=False, title=title, title_justify="left", caption_justify="left")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    return drawn
