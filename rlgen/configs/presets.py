"""Presets by name: of `rlgen quickstart`, and of an expert for one task."""

from dataclasses import replace

from rlgen.configs.schema import (
    BCConfig,
    CollectConfig,
    Config,
    CriticConfig,
    DemosConfig,
    DiffusionConfig,
    EvaluateConfig,
    ExportConfig,
    ImageEncoderConfig,
    PolicyConfig,
    PPOConfig,
    VlaStageConfig,
)


def run_presets() -> dict[str, Config]:
    """Returns the presets of `rlgen quickstart` and `rlgen run`.

    `quickstart` is the recipe of experts; `few` leaves more to PPO, after three human-like demonstrations cloned;
    `smoke` tries everything.
    """
    return {"quickstart": _quickstart(), "few": Config(), "smoke": _smoke()}


def _quickstart() -> Config:
    """Returns the preset `state` with less of everything, scored by the stage `evaluate` alone, then a small VLA."""
    state = _state()
    return replace(
        state,
        demos=replace(state.demos, episodes=64),
        bc=replace(state.bc, episodes=64),
        ppo=replace(state.ppo, iterations=20, rounds=1, evaluate_episodes=50, score_episodes=0),
        vla=VlaStageConfig(optimizer_steps=1500),
    )


def _smoke() -> Config:
    """Returns every stage in a few minutes, too small to learn: to see that everything runs and fits together."""
    return Config(
        demos=DemosConfig(episodes=15),
        bc=BCConfig(episodes=8, optimizer_steps=1200, warmup=20),
        ppo=PPOConfig(
            iterations=2,
            environments=8,
            actor_learning_rate=5e-6,
            critic_warmup=1,
            evaluate_every=1,
            evaluate_episodes=4,
        ),
        collect=CollectConfig(episodes=4, max_trials=75),
        export=ExportConfig(image_size=64, shards=2),
        vla=VlaStageConfig(model="tiny", optimizer_steps=40, batch=8, checkpoint_every=20),
        evaluate=EvaluateConfig(episodes=6, vla_episodes=4),
    )


# Ends at 95 % with a lower end of the interval of 85 %, once successes no longer get shorter or smoother.
_GOAL = {
    **{"evaluate_episodes": 50, "target": 0.95, "target_low": 0.85},
    **{"plateau": 2, "min_iterations": 30, "score_episodes": 50},
}


def expert_presets() -> dict[str, Config]:
    """Returns the presets of `rlgen expert`.

    `state` is for a few cores, `narrow` for images there, `vision`, the paper's policy, for images on an accelerator,
    `compact` for images in worlds on a GPU, `tiny` to try everything once.
    """
    return {
        "state": _state(),
        "narrow": _narrow(),
        "vision": _vision(),
        "compact": _compact(),
        "tiny": _tiny(),
    }


def fit_to(config: Config, horizon: int) -> Config:
    """Returns the configuration with as many chunks an iteration as an episode of `horizon` control steps has."""
    action_steps = config.ppo.action_steps or config.policy.horizon
    return replace(config, ppo=replace(config.ppo, chunks=-(-horizon // action_steps)))


def _state() -> Config:
    """Returns the preset for a few cores: an MLP that predicts the clean chunk, cloned to the end with corrections.

    PPO then begins from clones that mostly succeed with its noise, in long tasks too, and is careful with them: the
    critic explains the returns before the policy moves, its first steps are no larger than others, and it is kept
    steady. Half of a chunk is executed.
    """
    return Config(
        demos=DemosConfig(episodes=128, clean=True),
        policy=PolicyConfig(
            objects="all", network="mlp", mlp_widths=(384,) * 5, diffusion=DiffusionConfig(prediction="x0")
        ),
        bc=BCConfig(
            **{"episodes": 128, "optimizer_steps": 15000, "batch": 256},
            **{"correction_rounds": 6, "correction_episodes": 50, "correction_target": 0.95},
        ),
        ppo=PPOConfig(
            iterations=30,
            rounds=3,
            environments=20,
            batch=875,
            critic_warmup=4,
            warm_moments=True,
            gamma=0.97,
            clip=0.03,
            clip_base=0.003,
            steadiness_weight=0.05,
            action_steps=4,
            evaluate_every=10,
            **{**_GOAL, "min_iterations": 20, "evaluate_episodes": 100},
        ),
    )


def _narrow() -> Config:
    """Returns the preset for images on a few cores: an encoder of less than a million parameters, a grid of 6 x 6."""
    return Config(
        demos=DemosConfig(episodes=40),
        policy=PolicyConfig(
            observation="images",
            network="mlp",
            image_encoder=ImageEncoderConfig(image_size=84, widths=(16, 32, 64)),
            critic=CriticConfig(privileged=True),
        ),
        bc=BCConfig(episodes=30, optimizer_steps=4000, batch=32, stop_success=0.3, check_every=250),
        ppo=PPOConfig(
            iterations=30,
            evaluate_every=5,
            environments=20,
            epochs=3,
            microbatch=500,
            **{**_GOAL, "min_iterations": 10},
        ),
    )


def _vision() -> Config:
    """Returns the paper's policy: about 12 million parameters with the critic."""
    return Config(
        workers=16,
        demos=DemosConfig(episodes=50),
        policy=PolicyConfig(
            observation="images",
            compute_dtype="bfloat16",
            dim=64,
            dim_mults=(1, 2, 4),
            film_deep=True,
        ),
        bc=BCConfig(
            episodes=40, optimizer_steps=20000, batch=256, learning_rate=3e-4, stop_success=0.5, check_every=1000
        ),
        ppo=PPOConfig(
            iterations=150,
            environments=200,
            epochs=5,
            batch=10000,
            actor_learning_rate=5e-5,
            evaluate_every=10,
            microbatch=2500,
            **_GOAL,
        ),
    )


def _compact() -> Config:
    """Returns the preset for images in a thousand worlds on a GPU: a smaller encoder than the paper's, and an MLP.

    A minibatch has 2000 chunks. Where it leads has not been measured.
    """
    return Config(
        workers=16,
        fixtures="fixed",
        demos=DemosConfig(episodes=50),
        policy=PolicyConfig(
            observation="images",
            network="mlp",
            compute_dtype="bfloat16",
            image_encoder=ImageEncoderConfig(image_size=96, widths=(32, 64, 128), renderer="warp"),
            critic=CriticConfig(privileged=True),
        ),
        bc=BCConfig(
            episodes=40, optimizer_steps=10000, batch=256, learning_rate=3e-4, stop_success=0.3, check_every=500
        ),
        ppo=PPOConfig(
            iterations=60,
            world="warp",
            environments=1000,
            batch=10000,
            evaluate_every=5,
            microbatch=2500,
            **_GOAL,
        ),
    )


def _tiny() -> Config:
    """Returns everything once, too small to learn."""
    return Config(
        demos=DemosConfig(episodes=2),
        bc=BCConfig(
            episodes=2, optimizer_steps=30, batch=16, warmup=2, check_every=20, check_episodes=2, stop_success=1.0
        ),
        ppo=PPOConfig(
            iterations=2,
            environments=2,
            epochs=1,
            batch=64,
            evaluate_every=1,
            evaluate_episodes=2,
            score_episodes=2,
        ),
    )
