import jax
import numpy as np

from rlgen.configs.presets import run_presets
from rlgen.core.files import write_json
from rlgen.pipeline import vla_train
from rlgen.pipeline.context import Context
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.run import create_run
from rlgen.vla.data.normalize import NormStats, Statistics
from rlgen.vla.training.loop import init_state


def test_a_run_of_version_0_1_0_acts_from_its_last_checkpoint(tmp_path):
    """That version left checkpoints of NumPy arrays and the statistics, and no folder of the finished model."""
    context = Context(create_run(tmp_path / "run", run_presets()["smoke"], {}), tmp_path)
    config, folder = context.run.config, tmp_path / "run" / "vla-train"
    model, train = vla_train.model_config(config), vla_train.train_config(config, context.seed("vla"))
    state = jax.jit(lambda: init_state(model, train))()
    with Checkpoints(folder / "checkpoints", keep=1) as checkpoints:
        checkpoints.save(40, state, {"stage": "vla-train", "task": config.task})
    stats = NormStats(*(Statistics(*(np.full(size, x, np.float32) for x in (0, 1, -1, 1))) for size in (8, 7)))
    write_json(folder / "norm_stats.json", stats.to_json())
    policy = vla_train.load_policy(context)
    assert policy.config == model
    jax.tree.map(np.testing.assert_array_equal, policy.params, jax.tree.map(np.asarray, state.inference_params))
    jax.tree.map(np.testing.assert_array_equal, policy.pipeline.transforms[1].stats, stats)
