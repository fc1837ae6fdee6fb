"""Draw the picture of the README from a benchmark store: for each line of documents, what every variant scored, with its interval.

In: ``benchmark.duckdb``, and where the SVG goes. Out: the SVG. Run by hand after ``make demo``:

    python scripts/draw_stories.py data/benchmark.duckdb docs/stories.svg
"""

import sys
from pathlib import Path

import duckdb
import matplotlib as mpl
from matplotlib.figure import Figure

QUESTION = """
    select l.line, l.variant, l.condition, l.mean, l.ci_low, l.ci_high, l.n, p.verdict
    from leaderboard l join promotion_decisions p on p.evaluation_id = l.evaluation_id and p.primary_metric = l.metric
        and p.challenger = 'adapter'
    where p.is_current and l.metric = 'pair_accuracy' and l.variant <> 'floor_empty' and l.variant <> 'floor_constant'
    order by l.line, l.mean, l.variant
"""
COLOURS = {"promote": "#009e73", "reject": "#d55e00", "inconclusive": "#0072b2"}  # Okabe and Ito: told apart by everybody
STYLE = {"svg.hashsalt": "medvl", "svg.fonttype": "none", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}
GREY = "#999999"


def draw(store: Path, target: Path) -> None:
    """One panel for each line."""
    with duckdb.connect(str(store), read_only=True) as connection:
        rows = connection.execute(QUESTION).fetchall()
    lines = list(dict.fromkeys(row[0] for row in rows))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 2.6), layout="constrained")
        for axes, line in zip(figure.subplots(1, len(lines), squeeze=False)[0], lines, strict=True):
            mine = [row for row in rows if row[0] == line]
            verdict = mine[0][-1]
            for place, (_, variant, _, mean, low, high, _, _) in enumerate(mine):
                colour = COLOURS[verdict] if variant == "adapter" else GREY
                bars = None if low is None or high is None else [[mean - low], [high - mean]]
                axes.errorbar(mean, place, xerr=bars, color=colour, marker="o", markersize=4, capsize=2)
            names = [variant if condition == "as_is" else f"{variant}, {condition}" for _, variant, condition, *_ in mine]
            axes.set_yticks(range(len(mine)), labels=[name.replace("_", " ") for name in names])
            axes.set(xlim=(-0.02, 1), xlabel=f"pair accuracy, {mine[0][6]} documents")
            axes.set_title(f"{line}\n{verdict}", color=COLOURS[verdict], fontsize=9)
        figure.savefig(target, metadata={"Date": None})


def main(arguments: list[str]) -> int:
    """Draw the store of the first argument into the file of the second."""
    if len(arguments) != 2:
        print(f"found {len(arguments)} arguments; usage: draw_stories.py <benchmark.duckdb> <target.svg>")
        return 2
    draw(Path(arguments[0]), Path(arguments[1]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
