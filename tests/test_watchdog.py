"""The watchdog of a latent that is told number by number; the others' tests stand in test_imagine.py."""

import pytest

from sakiyomi.watchdog import Watch, warnings

NAME = "latent collapsed"


def log(*shares: float | None, kl: float = 10.0) -> list[dict[str, float]]:
    """Validations with these shares of the latent in use, between training lines."""
    lines = []
    for step, share in enumerate(shares):
        active = {} if share is None else {"validation/active": share}
        lines += [{"step": step, "total": 0.1, "active": 0.0}]
        lines += [{"step": step, "validation/total": 0.1, "validation/kl": kl, **active}]
    return lines


@pytest.mark.parametrize("count", [1, 2, 4])
def test_it_speaks_when_so_many_validations_in_a_row_use_too_little(count: int) -> None:
    watch = Watch(validations=count)
    assert warnings(log(*[0.49] * (count - 1)), watch) == {}
    for metrics in (log(*[0.25] * count), log(1.0, *[0.25] * count)):
        found = warnings(metrics, watch)
        assert list(found) == [NAME]
        assert "only 25% of its numbers" in found[NAME]
        assert f"under 0.5 for {count} validations" in found[NAME]
    for healthy in range(count):
        shares = [0.0] * count
        shares[healthy] = 0.5  # half of it is what is asked
        assert warnings(log(*shares), watch) == {}


def test_it_names_cures_that_are_fields() -> None:
    told = warnings(log(*[0.0] * 4), Watch())[NAME]
    for flag in ("--train.losses.kl.value", "--train.losses.kl.first 0", "--train.losses.kl.curve linear"):
        assert flag in told
    assert "--model.latent" in told


def test_the_share_that_is_too_little_can_be_set() -> None:
    metrics = log(*[0.3] * 4)
    assert NAME in warnings(metrics, Watch())
    assert warnings(metrics, Watch(active=0.2)) == {}
    assert NAME in warnings(log(*[0.9] * 4), Watch(active=0.95))


def test_what_is_told_number_by_number_is_not_told_twice() -> None:
    """A KL that is small in all of its numbers is no second complaint, and without the numbers it is the only one."""
    both = log(*[0.0] * 4, kl=0.001)
    assert list(warnings(both, Watch())) == [NAME]
    assert warnings(log(*[0.9] * 4, kl=0.001), Watch()) == {}
    assert list(warnings(log(*[None] * 4, kl=0.001), Watch())) == ["latent unused"]


def test_what_is_not_measured_is_no_sign() -> None:
    assert warnings(log(*[None] * 6), Watch()) == {}
    assert warnings(log(0.0, 0.0, None, 0.0), Watch()) == {}
    assert warnings(log(*[float("nan")] * 4), Watch()) == {}
