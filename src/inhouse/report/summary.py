"""The lines that `inhouse make` ends with."""

from pathlib import Path

from inhouse.common.lineage import RECORD, lineage, stale
from inhouse.common.progress import duration, short_count
from inhouse.data.text_size import passes_warning
from inhouse.report.passes import passes_made
from inhouse.report.scores import bits_lost, read_scores, score_lines
from inhouse.resilience.goodput import describe, read_times


def summary(run: Path) -> str:
    """Stages and their times, scores, where things are, and what to do next."""
    records, outdated = lineage(run)["stages"], stale(run)
    lines = [
        f"{name:<10} {duration(record['seconds']):>12}" + (f"  stale: {outdated[name]}" if name in outdated else "")
        for name, record in records.items()
    ]
    lines.append(f"{'together':<10} {duration(sum(record['seconds'] for record in records.values())):>12}")
    spent = {name: seconds for name in records if (seconds := read_times(run / name))}
    lines += [f"goodput    {name}: {describe(seconds)}" for name, seconds in spent.items()]
    if made := passes_made(run):
        lines.append(f"text       {short_count(made.text_tokens)} tokens, {made.passes:,.1f} passes over it")
        lines += [f"           {warning}"] if (warning := passes_warning(made.passes)) else []
    if (scores := read_scores(run)) and "evaluate" not in outdated:
        lines += ["", *score_lines(scores)]
        if (lost := bits_lost(scores)) is not None:
            lines.append(f"fine-tuning changed the held-out bits per byte by {lost:+.3f}")
    lines += ["", f"report     {run / 'report.html'}"]
    if (run / "export").is_dir():
        mark = "  (stale)" if "export" in outdated else ""
        lines += [f"export     {path}{mark}" for path in sorted((run / "export").iterdir()) if path.name != RECORD]
    if (run / "sft").is_dir():
        lines += ["", f"talk to it: inhouse chat {run}", f"serve it:   inhouse serve {run}"]
    return "\n".join(lines)
