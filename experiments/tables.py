"""The README's tables, made from the committed results.

Command:  uv run python experiments/tables.py           prints them
          uv run python experiments/tables.py --write   puts them between the README's markers
Cost:     none.
"""

import argparse
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
ACTORS = ("demonstrator", "bc", "ppo", "vla")


def main() -> None:
    """Prints or writes every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite README.md")
    tables = {"quickstart": quickstart_table(), "quality": quality_table()}
    if not parser.parse_args().write:
        print("\n\n".join(tables.values()))
        return
    readme = ROOT / "README.md"
    readme.write_text(with_tables(readme.read_text(), tables))


def with_tables(text: str, tables: dict[str, str]) -> str:
    """`text` with what lies between `<!-- name -->` and `<!-- /name -->` replaced by the tables."""
    for name, table in tables.items():
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.S)
    return text


def summaries() -> dict[str, dict]:
    """Every committed quickstart by its name."""
    files = sorted((RESULTS / "quickstart").glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def rate(value: dict) -> str:
    """`45/50 (79-96 %)`."""
    return f"{value['successes']}/{value['trials']} ({100 * value['low']:.0f}-{100 * value['high']:.0f} %)"


def quickstart_table() -> str:
    """Success on the stored initial states, and minutes."""
    rows = ["| run | demonstrator | BC | PPO | VLA | minutes |", "| --- | --- | --- | --- | --- | --- |"]
    for name, summary in summaries().items():
        cells = [rate(summary[actor]) for actor in ACTORS]
        minutes = sum(summary["seconds"].values()) / 60
        rows.append(f"| {name} | {' | '.join(cells)} | {minutes:.1f} |")
    return "\n".join(rows)


def quality_table() -> str:
    """Demonstrations beside RL data."""
    rows = ["| run | source | no-ops | length | mean squared jerk, m²/s⁶ | spread of the y action |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name, summary in summaries().items():
        for source, value in summary["quality"].items():
            jerk, spread = value["mean_squared_jerk"]["mean"], value["action_spread"][1]
            length = value["length"]["mean"]
            rows.append(f"| {name} | {source} | {value['noops']} | {length:.0f} | {jerk:.1f} | {spread:.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
