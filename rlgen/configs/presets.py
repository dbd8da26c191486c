"""Presets of `rlgen quickstart` and of `rlgen expert`: configurations by name."""

from dataclasses import replace

from rlgen.configs.schema import (
    BCConfig,
    CollectConfig,
    Config,
    DemosConfig,
    EvaluateConfig,
    ExportConfig,
    ImageEncoderConfig,
    PolicyConfig,
    PPOConfig,
    VlaConfig,
)


def presets() -> dict[str, Config]:
    """Configurations by name."""
    return {"quickstart": Config(), "smoke": _smoke()}


def _smoke() -> Config:
    """Every stage in a few minutes, too small to learn: that everything runs and fits together."""
    return Config(
        demos=DemosConfig(episodes=15),
        bc=BCConfig(steps=1200, warmup=20),
        ppo=PPOConfig(
            iterations=2, environments=8, actor_rate=5e-6, critic_warmup=1, evaluate_every=1, evaluate_episodes=4
        ),
        collect=CollectConfig(episodes=4, attempts=75),
        export=ExportConfig(size=64, shards=2),
        vla=VlaConfig(size="tiny", steps=40, batch=8, checkpoint_every=20),
        evaluate=EvaluateConfig(episodes=6, vla_episodes=4),
    )


# Evaluated on the stored initial states; ends at 95 % with a lower end of the interval of 85 %.
_GOAL = {"evaluate_split": "heldout", "evaluate_episodes": 50, "target": 0.95, "target_low": 0.85}


def expert_presets() -> dict[str, Config]:
    """`state` on a few cores, `narrow` for pictures there, `vision` for pictures on an accelerator, `tiny` to try."""
    return {"state": _state(), "narrow": _narrow(), "vision": _vision(), "tiny": _tiny()}


def fit_to(config: Config, horizon: int) -> Config:
    """The configuration with as many chunks an iteration as an episode of `horizon` control steps has."""
    executed = config.ppo.executed or config.policy.horizon
    return replace(config, ppo=replace(config.ppo, chunks=-(-horizon // executed)))


def _state() -> Config:
    """A perceptron, whose unfinished clones PPO made precise where those of the U-Net did not bear its noise."""
    return Config(
        demos=DemosConfig(episodes=40),
        policy=PolicyConfig(network="mlp"),
        bc=BCConfig(episodes=30, steps=4000),
        ppo=PPOConfig(iterations=150, gamma=0.97, evaluate_every=10, **_GOAL),
    )


def _narrow() -> Config:
    """Under a million parameters in the encoder, whose three stages leave a grid of 6 x 6."""
    return Config(
        demos=DemosConfig(episodes=40),
        policy=PolicyConfig(
            sees="pictures", network="mlp", eyes=ImageEncoderConfig(size=84, widths=(16, 32, 64)), critic_physics=True
        ),
        bc=BCConfig(episodes=30, steps=4000, batch=32, stop_success=0.3, check_every=250),
        ppo=PPOConfig(iterations=30, evaluate_every=5, environments=20, epochs=3, largest_part=500, **_GOAL),
    )


def _vision() -> Config:
    """The paper's policy: about 12 million parameters with the critic."""
    return Config(
        threads=16,
        demos=DemosConfig(episodes=50),
        policy=PolicyConfig(
            sees="pictures",
            precision="bfloat16",
            dim=64,
            mults=(1, 2, 4),
            film_deep=True,
            eyes=ImageEncoderConfig(size=128),
        ),
        bc=BCConfig(episodes=40, steps=20000, batch=256, learning_rate=3e-4, stop_success=0.5, check_every=1000),
        ppo=PPOConfig(
            iterations=150,
            environments=200,
            epochs=5,
            batch=10000,
            actor_rate=5e-5,
            evaluate_every=10,
            largest_part=2500,
            **_GOAL,
        ),
    )


def _tiny() -> Config:
    """Everything once, too small to learn."""
    return Config(
        demos=DemosConfig(episodes=2),
        bc=BCConfig(episodes=2, steps=30, batch=16, warmup=2, check_every=20, check_episodes=2, stop_success=1.0),
        ppo=PPOConfig(
            iterations=2,
            environments=2,
            epochs=1,
            batch=64,
            evaluate_every=1,
            evaluate_split="heldout",
            evaluate_episodes=2,
        ),
    )
