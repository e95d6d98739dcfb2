"""The verbs of `arena`: the board of a file of battles, and battles between endpoints."""

import sys
from pathlib import Path
from typing import Annotated

import typer

arena = typer.Typer(no_args_is_help=True, help="Rank models by battles.")


@arena.command("board")
def board(
    votes: Annotated[Path, typer.Option(metavar="FILE", help="CSV or JSON Lines of battles, or a log of votes.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a page with the intervals drawn.")] = None,
    style: Annotated[bool, typer.Option("--style", help="Hold length and Markdown of the answers equal.")] = False,
    reweight: Annotated[bool, typer.Option("--reweight", help="Count all pairs alike, however often drawn.")] = False,
    category: Annotated[str | None, typer.Option(metavar="NAME", help="Votes of this category alone.")] = None,
    voter: Annotated[str | None, typer.Option(metavar="people|judges", help="Votes of one kind of voters.")] = None,
    head: Annotated[Path | None, typer.Option(metavar="FILE", help="Of a log: the file with its end.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help="Of a log: the key that signs it.")] = None,
) -> None:
    """Print the board of a file of battles: scores, intervals and ranks, and what is odd about its votes."""
    from inhouse.arena.leaderboard import Options, category_boards, make_leaderboard, read_votes
    from inhouse.arena.render import board_json, lines, page, remarks
    from inhouse.common.files import write_atomic

    battles, notes = read_votes(votes, head, key)
    options = Options(voter, category, style, reweight)
    leaderboard = make_leaderboard(battles, options, notes)
    if html is not None:
        write_atomic(html, page(leaderboard, category_boards(battles, options)))
    if as_json:
        print(board_json(leaderboard.board))
        print("\n".join(remarks(leaderboard)), file=sys.stderr)
    else:
        print("\n".join(lines(leaderboard)))


@arena.command("battle")
def battle(
    plan: Annotated[Path, typer.Argument(metavar="PLAN", help="A .toml file: models, prompts, who votes.")],
) -> None:
    """Let models behind endpoints answer the same prompts, have a verifier or a judge model vote, store the votes."""
    from inhouse.arena.battle.plan import read_plan
    from inhouse.arena.battle.run import fight

    outcome = fight(read_plan(plan))
    if outcome.failed and not outcome.stored + outcome.before:
        raise ValueError(outcome.sentence())
    print(outcome.sentence())
