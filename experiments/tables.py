"""The tables of results, made from the committed JSON.

Command:  uv run python experiments/tables.py           prints them
          uv run python experiments/tables.py --write   puts them between their markers in experiments/README.md
                                                        and README.md
Cost:     none.
Expected: `tests/test_tables.py` compares what stands there with the JSON.

A table lies between `<!-- name -->` and `<!-- /name -->`; a file has the markers of the tables that it shows. Column
names here are in the present words; keys of the JSON are those of the version that wrote it.
"""

import argparse
import json
import re
from pathlib import Path

from ablations import ablation_table
from claims import claims_table
from dataset_tables import dataset_table, exported_table, trips_table, video_loading_table
from device_tables import device_table
from fleet_tables import fleet_estimate, fleet_table, fleet_tasks, seeds_table, together_table
from learning_tables import (
    broken_off_table,
    curves_table,
    expert_failures,
    expert_table,
    learning_table,
    overlap_table,
    sampler_table,
    update_table,
)
from paper_cost import cost_table
from placements import placements_table
from ppo_settings import settings_table, size_table
from table_parts import RESULTS, rate
from vla_tables import attack_table, dry_profile_table, vla_speed_table, vla_table
from world_tables import (
    images_table,
    memory_table,
    motion_table,
    parity_table,
    speed_table,
    warp_images_table,
    wide_resets_table,
)

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (ROOT / "README.md", ROOT / "experiments" / "README.md")
# Actors of a quickstart by their key in its summary.
ACTORS = {"demonstrator": "scripted expert", "bc": "BC", "ppo": "PPO", "vla": "VLA"}


def main() -> None:
    """Prints or writes every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="rewrite the documents")
    tables = all_tables()
    if not parser.parse_args().write:
        print("\n\n".join(tables.values()))
        return
    for document in DOCUMENTS:
        document.write_text(with_tables(document.read_text(), tables))


def all_tables() -> dict[str, str]:
    """Returns every table by the name of its markers."""
    return {
        "claims": claims_table(),
        "paper-cost": cost_table(),
        "quickstart": quickstart_table("quickstart"),
        "data-quality": quality_table("quickstart"),
        "quickstart-few": quickstart_table("quickstart_few"),
        "data-quality-few": quality_table("quickstart_few"),
        "expert-survey": expert_table(),
        "expert-failures": expert_failures(),
        "wide-resets": wide_resets_table(),
        "environment-speed": speed_table(),
        "image-speed": images_table(),
        "environment-memory": memory_table(),
        "warp-motion": motion_table(),
        "warp-parity": parity_table(),
        "warp-images": warp_images_table(),
        "dataset-speed": dataset_table(),
        "dataset-trips": trips_table(),
        "video-loading": video_loading_table(),
        "dataset-replay": exported_table(),
        "sampler-speed": sampler_table(),
        "update-speed": update_table(),
        "overlap": overlap_table(),
        "ppo": learning_table("learning"),
        "ppo-curves": curves_table("learning", ("task", "algorithm")),
        "ppo-shorter": learning_table("learning/iterations-50"),
        "ppo-slower": learning_table("learning/actor-rate-5e-5"),
        "ppo-preset": learning_table("learning/preset-state"),
        "ppo-images": learning_table("learning/pictures"),
        "ppo-gaussian-coarse": learning_table("learning/gaussian-coarse"),
        "fleet": fleet_table("diffusion"),
        "fleet-tasks": fleet_tasks("diffusion"),
        "placements": placements_table(),
        "fleet-seeds": seeds_table(),
        "fleet-estimate": fleet_estimate("diffusion"),
        "fleet-together": together_table(),
        "ppo-settings": settings_table(),
        "ppo-size": size_table(),
        "ppo-ablations": ablation_table(),
        "ppo-broken-off": broken_off_table(),
        "ppo-broken-off-curves": curves_table("ablations/broken_off", ("ablation", "variant")),
        "vla-success": vla_table("closed_loop"),
        "vla-lerobot": vla_table("lerobot_loop"),
        "vla-training-speed": vla_speed_table(),
        "vla-dry-profile": dry_profile_table(),
        "vla-attack": attack_table(),
        "device": device_table(),
    }


def with_tables(text: str, tables: dict[str, str]) -> str:
    """Returns `text` with the tables between their markers; a marker that is not there is passed over."""
    for name, table in tables.items():
        block = f"<!-- {name} -->\n{table}\n<!-- /{name} -->"
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", lambda _, block=block: block, text, flags=re.S)
    return text


def summaries(folder: str) -> dict[str, dict]:
    """Returns the summary of every committed run of a folder by its name."""
    files = sorted((RESULTS / folder).glob("*.json"))
    return {file.stem: json.loads(file.read_text()) for file in files}


def quickstart_table(folder: str) -> str:
    """Returns the success of each actor on the stored initial states."""
    rows = [f"| run | {' | '.join(ACTORS.values())} |", "| --- |" + " --- |" * 4]
    for name, summary in summaries(folder).items():
        cells = [rate(summary[actor]) for actor in ACTORS]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)


def quality_table(folder: str) -> str:
    """Returns the quality of demonstrations and of collected episodes, side by side."""
    rows = ["| run | source | no-ops | length | mean squared jerk, m²/s⁶ | std of the y action |"]
    rows.append("| --- | --- | --- | --- | --- | --- |")
    for name, summary in summaries(folder).items():
        for source, value in summary["quality"].items():
            jerk, spread = value["mean_squared_jerk"]["mean"], value["action_spread"][1]
            length = value["length"]["mean"]
            rows.append(f"| {name} | {ACTORS[source]} | {value['noops']} | {length:.0f} | {jerk:.1f} | {spread:.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
