"""A world of characters as stable-baselines3 wants it, for its agents and others written for it.

    from stable_baselines3 import PPO
    PPO("MlpPolicy", StableBaselines(world)).learn(1_000_000)

It hands every number over the CPU; `agents/ppo.py` is the faster way.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from sakiyomi.errors import SakiyomiError
from sakiyomi.worlds.character import CharacterWorld

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise SakiyomiError("stable-baselines3 is not installed: pip install 'stable-baselines3>=2.3'") from error


class StableBaselines(VecEnv):
    """One world behind stable-baselines3's interface for many; attributes and methods are those of the world."""

    def __init__(self, world: CharacterWorld) -> None:
        self.world = world
        self._actions: np.ndarray | None = None
        super().__init__(world.num_envs, world.single_observation_space, world.single_action_space)

    def reset(self) -> np.ndarray:
        """Observations [B, O]; the seed given to `seed` before, if any, is used once."""
        observation, _ = self.world.reset(seed=self._seeds[0])
        self._reset_seeds()
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        if self._actions is None:
            raise SakiyomiError("step_wait() without an action; call step_async(actions) before it")
        observation, reward, terminated, truncated, info = self.world.step(self._actions)
        self._actions = None
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(cut)} for cut in truncated]
        done = terminated | truncated
        for index in np.flatnonzero(done):
            infos[index]["terminal_observation"] = info["final_obs"][index]
        return observation, reward.astype(np.float32), done, infos

    def close(self) -> None:
        self.world.close()

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        value = getattr(self.world, attr_name)
        return [value for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:
        raise SakiyomiError(f"{attr_name!r} cannot be set: a world is what its Config says; make another one")

    def env_method(
        self, method_name: str, *method_args: Any, indices: int | Iterable[int] | None = None, **method_kwargs: Any
    ) -> list[Any]:
        raise SakiyomiError(f"{method_name!r} cannot be called on single characters; call it on the world")

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]
