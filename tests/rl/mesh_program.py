"""Clones and trains a toy policy on one device and on all of this process, or on those of two; for `test_mesh`.

mesh_program.py POLICY ONE MANY trains in ONE for three iterations on one device, and in MANY for two on all.
mesh_program.py POLICY MANY COORDINATOR PROCESSES PROCESS goes on in MANY to three.

`vectors` observes vectors, with frozen steps, a loss towards the cloned policy and environments in two groups;
`images` images, encoded once for all steps, in parts.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rl.worlds import SIZE, PointEnv

from rlgen.configs.devices import DeviceConfig
from rlgen.configs.schema import BCConfig, CriticConfig, DiffusionConfig, ImageEncoderConfig, PolicyConfig, PPOConfig
from rlgen.core.types import ImageObservation, Observation
from rlgen.policies.critic import make_critic
from rlgen.policies.diffusion import DiffusionPolicy
from rlgen.rl import bc, ppo
from rlgen.rl.rollout import environments_here
from rlgen.rl.train_state import init_state
from rlgen.training import sharding
from rlgen.training.checkpoints import Checkpoints
from rlgen.training.metrics import Metrics
from rlgen.training.processes import connect, is_first

PIXELS, STEPS = 16, 4
CHAIN = DiffusionConfig(denoising_steps=3, sigma_min_sample=0.1, sigma_min_logprob=0.1)
SMALL = PolicyConfig(horizon=2, network="mlp", mlp_widths=(16,), diffusion=CHAIN, critic=CriticConfig(widths=(16,)))
IMAGES = replace(
    SMALL,
    observation="images",
    image_encoder=ImageEncoderConfig(image_size=PIXELS, widths=(8, 8), keypoints=4, robot_state_size=2, random_shift=2),
)
POLICIES = {
    "vectors": DiffusionPolicy(replace(SMALL, diffusion=replace(CHAIN, num_finetuned_steps=2)), SIZE, 3),
    "images": DiffusionPolicy(IMAGES, SIZE, 3),
}
PPO = PPOConfig(iterations=4, environments=16, chunks=4, epochs=2, critic_warmup=0, random_shift=2)
CONFIGS = {
    "vectors": replace(PPO, batch=40, groups=2, bc_weight=0.1, steadiness_weight=0.1, advantage_quantiles=(0.1, 0.9)),
    # Parts of 2 chunks on 8 devices, of 4 on one.
    "images": replace(PPO, batch=96, microbatch=12),
}
BC = BCConfig(optimizer_steps=2 * STEPS, batch=16, warmup=1)


def observe_images(observation: Observation) -> ImageObservation:
    """Shows the position as the column of a bright line, in two cameras."""
    columns = np.arange(PIXELS) / PIXELS * 3 - 1.5
    line = 255 * np.exp(-20 * (observation.vector[:, 1:2] - columns) ** 2)
    images = np.broadcast_to(line[:, None, None, :, None], (len(line), 2, PIXELS, PIXELS, 3)).astype(np.uint8)
    return ImageObservation(images=images, vector=observation.vector.astype(np.float32))


def demonstrations(name: str) -> bc.BCData:
    """Commands a third of minus the position."""
    positions = np.random.default_rng(0).uniform(-0.5, 0.5, 24)
    env = PointEnv(len(positions))
    seen = env.reset(np.stack([0 * positions, positions, 0 * positions + 1], axis=1))
    chunk = np.repeat(np.stack([-positions / 3, positions, 0 * positions], axis=1)[:, None], 2, axis=1)
    return bc.BCData(observe_images(seen) if name == "images" else seen.vector.astype(np.float32), chunk.astype("f4"))


def train(out: Path, name: str, iterations: int, mesh: Any) -> None:
    """Clones where that is not done, then goes on to `iterations` iterations."""
    policy, config, data = POLICIES[name], CONFIGS[name], demonstrations(name)
    critic = make_critic(policy)
    metrics = []
    with Checkpoints(out / "bc") as checkpoints:
        start = jax.jit(lambda key: bc.init_state(key, policy, BC, data))(jax.random.PRNGKey(0))
        if checkpoints.latest() is None:
            cloned, data = sharding.place_state(mesh, start), sharding.replicate(mesh, data)
        else:
            cloned, _ = checkpoints.restore(sharding.restore_target(mesh, start))
        while int(cloned.step) < STEPS * iterations // 2 and int(cloned.step) < BC.optimizer_steps:
            cloned, values = bc.train_steps(policy, BC, cloned, data, STEPS, mesh)
            metrics.append({"kind": "bc", "step": int(cloned.step)} | dict(values))
            checkpoints.save(int(cloned.step), cloned, {})
    with Checkpoints(out / "ppo") as checkpoints:
        fresh = jax.jit(lambda key, own: init_state(key, policy, critic, policy.init(own), config))
        begin = fresh(jax.random.PRNGKey(1), jax.random.PRNGKey(0))
        if checkpoints.latest() is None:
            state = sharding.place_state(mesh, begin)
        else:
            state, _ = checkpoints.restore(sharding.restore_target(mesh, begin))
        ppo.check_mesh(policy, config, mesh)
        env = PointEnv(len(environments_here(config, config.environments, mesh)))
        observe = observe_images if name == "images" else (lambda observation: observation.vector)
        while int(state.iteration) < iterations:
            state, values = ppo.iterate(policy, critic, config, state, env, 5, None, observe, mesh)
            metrics.append({"kind": "ppo", "step": int(state.iteration)} | values)
            checkpoints.save(int(state.iteration), state, {})
    if is_first():
        lines = Metrics(out / "metrics.jsonl", keep=10**6)
        for values in metrics:
            kept = {key: value for key, value in values.items() if not key.startswith("seconds")}
            lines.write(**{key: value if key in ("kind", "step") else float(value) for key, value in kept.items()})
    cloned, state = jax.tree.map(np.asarray, sharding.one_copy(mesh, (cloned, state)))
    if is_first():
        parts = {
            "bc net": (cloned.net, cloned.optimizer[1][0].nu),
            "bc ema": (cloned.ema, cloned.optimizer[1][0].nu),
            "ppo net": (state.net, state.actor_optimizer[1][0].nu),
            "ppo critic": (state.critic, state.critic_optimizer[1][0].nu),
        }
        vectors = {
            f"{part} {kind}": flat(pair[index])
            for part, pair in parts.items()
            for index, kind in enumerate(("values", "nu"))
        }
        np.savez(out / "end.npz", statistics=flat((state.scaler, state.iteration, state.control_steps)), **vectors)
    print(f"{name}: {env.num_envs} environments on {1 if mesh is None else mesh.size} devices", flush=True)


def flat(tree: Any) -> np.ndarray:
    """Returns all numbers of a pytree."""
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def main() -> None:
    """Trains the policy as the arguments say."""
    name, out, *others = sys.argv[1:]
    if len(others) == 1:
        train(Path(out), name, 3, None)
        train(Path(others[0]), name, 2, sharding.make_mesh())
    else:
        connect(DeviceConfig(others[0], int(others[1]), int(others[2])))
        train(Path(out), name, 3, sharding.make_mesh())


if __name__ == "__main__":
    main()
