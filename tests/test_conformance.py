"""The engine's promises, proven for every registered game. A new game gets this suite for nothing."""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from noise import NoisePerSample, with_noise_per_sample, with_plain_descent
from tasks import answers
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from variants import Variant, variants, wrap_play

from ganforge import zoo
from ganforge.batches import ImageSpec, Masked, PointSpec, spec_from_json, spec_to_json
from ganforge.capabilities import Inpaints, can
from ganforge.commands.game_options import help_of, options_of
from ganforge.commands.train import TrainOptions
from ganforge.engine import Settings, Trainer, train
from ganforge.engine.checkpoint import read_checkpoint, write_checkpoint
from ganforge.engine.showing import show
from ganforge.engine.watching import Watch
from ganforge.errors import TrainingError
from ganforge.game import Move, hyper_parameters, registered_name
from ganforge.options import names_of

every_variant = pytest.mark.parametrize("variant", variants(), ids=str)
every_game = pytest.mark.parametrize("name", zoo.catalogue())


def weights(game: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in game.state_dict().items()}


def assert_identical(a: Any, b: Any) -> None:
    """Bit for bit, through dicts and lists."""
    assert type(a) is type(b)
    if isinstance(a, Tensor):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_identical(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for left, right in zip(a, b, strict=True):
            assert_identical(left, right)
    else:
        assert a == b


def play(trainer: Trainer, rounds: int) -> None:
    for _ in range(rounds):
        trainer.play_round()


@every_variant
def test_a_move_changes_the_players_it_names_and_nobody_else(variant: Variant) -> None:
    trainer = variant.trainer()
    everybody = {name: seat.parameters for name, seat in trainer.seats.items()}
    moved: set[str] = set()

    def watched(moves: Iterator[Move]) -> Iterator[Move]:
        generator = cast(Generator[Move, Any, None], moves)
        seen = None
        while True:
            try:
                move = generator.send(seen)
            except StopIteration:
                return
            movers = {id(p) for name in move.players for p in everybody[name]}
            before = {name: [p.detach().clone() for p in parameters] for name, parameters in everybody.items()}
            seen = yield move
            for name, parameters in everybody.items():
                for old, new in zip(before[name], parameters, strict=True):
                    assert id(new) in movers or torch.equal(old, new), f"a move of {move.players} changed {name}"
            for name in move.players:
                assert any(not torch.equal(o, n) for o, n in zip(before[name], everybody[name], strict=True)), f"{name} did not move"
                moved.add(name)

    wrap_play(trainer.game, watched)
    trainer.phases = variant.trainer(trainer.game).phases
    play(trainer, 6)
    assert moved == set(everybody)
    assert all(p.grad is None for parameters in everybody.values() for p in parameters)


@every_variant
def test_every_parameter_of_every_player_learns(variant: Variant) -> None:
    trainer = variant.trainer()
    owned = {id(p) for seat in trainer.seats.values() for p in seat.parameters}
    pulled: set[int] = set()

    for parameter in trainer.game.parameters():
        parameter.register_post_accumulate_grad_hook(lambda p: pulled.add(id(p)))
    play(trainer, 6)
    for name, parameter in trainer.game.named_parameters():
        assert id(parameter) in owned, f"{name} belongs to no player"
        assert id(parameter) in pulled, f"{name} never had a gradient"


@every_variant
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(variant: Variant) -> None:
    first, second, other = variant.trainer(seed=1), variant.trainer(seed=1), variant.trainer(seed=2)
    torch.manual_seed(1)
    play(first, 3)
    torch.manual_seed(1)
    play(second, 3)
    play(other, 3)
    assert_identical(weights(first.game), weights(second.game))
    assert any(not torch.equal(a, b) for a, b in zip(weights(first.game).values(), weights(other.game).values(), strict=True))


@every_variant
def test_stopped_after_any_round_and_resumed_it_is_the_uninterrupted_run(variant: Variant, tmp_path: Path) -> None:
    whole, spec = variant.trainer(), variant.source().spec
    checkpoints = []
    for number in range(5):
        checkpoints.append(tmp_path / f"{number:06d}")
        write_checkpoint(checkpoints[-1], whole.game, whole.state())
        # What users see in between must not disturb the game.
        with whole.at_rest():
            torch.manual_seed(0)
            answers(whole.game, variant.batch(), spec)
        whole.play_round()
    with whole.at_rest():
        expected = answers(whole.game, variant.batch(), spec)
    assert expected, "a game that can do nothing for its users"
    for number, checkpoint in enumerate(checkpoints):
        resumed = variant.trainer(variant.build(seed=99))
        resumed.load(read_checkpoint(checkpoint, resumed.game))
        play(resumed, 5 - number)
        assert_identical(weights(resumed.game), weights(whole.game))
        assert_identical(resumed.state(), whole.state())
        with resumed.at_rest():
            assert_identical(answers(resumed.game, variant.batch(), spec), expected)


@every_variant
@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulated_rounds_equal_one_round_of_a_larger_batch(variant: Variant, accumulate: int) -> None:
    game = variant.build()
    if game.couples_samples:
        pytest.skip("a sample's loss depends on its batch by design: K small batches are K small batches")
    results = []
    for of, batch in ((1, 4 * accumulate), (accumulate, 4)):
        game = variant.build()
        with_plain_descent(game)
        for module in game.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                # Batch statistics would tie the samples of a batch together; the running ones do not.
                module.eval()
        with_noise_per_sample(game, range(of))
        trainer = variant.trainer(game, batch_size=batch, accumulate=of)
        play(trainer, 2)
        results.append(weights(game))
    start = weights(variant.build())
    for name, large in results[0].items():
        moved, apart = (large - start[name]).float().norm(), (large - results[1][name]).float().norm()
        assert apart <= 2e-3 * moved + 1e-6, f"{name}: {apart:.2e} apart after moving by {moved:.2e}"
    assert any(not torch.equal(start[name], large) for name, large in results[0].items())


@every_variant
def test_bf16_trains_to_finite_losses(variant: Variant) -> None:
    trainer = variant.trainer(precision="bf16")
    play(trainer, 4)
    values = trainer.ledger.read()
    assert {key for key in values if key.startswith("loss/")}
    assert all(math.isfinite(value) for value in values.values())
    assert all(p.dtype == torch.float32 and torch.isfinite(p).all() for p in trainer.game.parameters())


@every_variant
def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_good_checkpoint(variant: Variant, tmp_path: Path) -> None:
    class Poisoned(variant.cls):  # type: ignore[misc, name-defined]
        @wraps(variant.cls.__init__)  # type: ignore[misc]
        def __init__(self, data: Any, **hyper: Any) -> None:
            super().__init__(data, **hyper)
            self.played = 0

            def poison(moves: Iterator[Move]) -> Iterator[Move]:
                self.played += 1
                generator = cast(Generator[Move, Any, None], moves)
                seen = None
                while True:
                    try:
                        move = generator.send(seen)
                    except StopIteration:
                        return
                    if self.played == 6:
                        move.losses = {names: loss * float("nan") for names, loss in move.losses.items()}
                    seen = yield move

            wrap_play(self, poison)

    out = tmp_path / "run"
    settings = Settings(rounds=20, batch_size=variant.batch_size, checkpoint_every="2", log_every=50, sample_every=1000)
    with pytest.raises(TrainingError) as caught:
        train(Poisoned, variant.source(), settings, out=out, hyper=variant.hyper)
    players = {"+".join(names) for names in [tuple(variant.build().players())]}
    assert "round 6: the loss of" in str(caught.value)
    assert any(name in str(caught.value) for name in players.pop().split("+"))
    assert f"the last good checkpoint is {out / 'checkpoints' / '000004'}" in str(caught.value)
    game = variant.build()
    state = read_checkpoint(out / "checkpoints" / "000004", game)
    assert state["round"] == 4
    assert all(torch.isfinite(p).all() for p in game.parameters())


class NoSync(TorchDispatchMode):
    """Raises where the host would wait for the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::is_nonzero", "aten::equal"):
            raise AssertionError(f"a round waits for the device: {func}")
        return func(*args, **(kwargs or {}))


@every_variant
def test_a_round_never_waits_for_the_device(variant: Variant) -> None:
    trainer = variant.trainer()
    play(trainer, 1)
    with NoSync():  # type: ignore[no-untyped-call]
        play(trainer, 4)


@every_variant
def test_answers_have_their_shapes_and_depend_on_their_own_sample_alone(variant: Variant) -> None:
    game, spec, batch = variant.build().eval(), variant.source().spec, variant.batch(6)
    few = replace(batch, **{name: tensor[:2] for name, tensor in batch.tensors().items()})
    with torch.no_grad(), NoisePerSample() as noise:
        said = answers(game, batch, spec)
        noise.call = 0
        again = answers(game, few, spec)
    for task, answer in said.items():
        # A discriminator that compares the samples of a batch judges them together.
        if task != "judge" or not game.couples_samples:
            assert torch.allclose(again[task], answer[:2], rtol=1e-4, atol=1e-5), f"{task} of a sample depends on the others"
        assert answer.dtype == torch.float32
        assert torch.isfinite(answer).all(), task
        kind = task.split()[0]
        if kind in ("sample", "steer", "edit", "inpaint", "upscale"):
            assert answer.shape == (6, *spec.shape), task
            assert isinstance(spec, PointSpec) or (answer.abs() <= 1).all() or kind == "upscale", f"{task}: pictures lie in [-1, 1]"
        elif kind == "translate":
            assert (len(answer), *answer.shape[2:]) == (6, *spec.shape[1:]), task
        elif kind in ("classify", "cluster"):
            torch.testing.assert_close(answer.sum(1), torch.ones(6))
            assert (answer >= 0).all()
            assert kind == "cluster" or (isinstance(spec, ImageSpec) and answer.shape[1] == len(spec.classes))
        elif kind == "encode":
            assert answer.ndim == 2
            assert len(answer) == 6
        else:
            assert answer.shape == (6,), task


@every_variant
def test_what_is_shown_of_a_run_can_be_drawn(variant: Variant, tmp_path: Path) -> None:
    trainer = variant.trainer()
    with trainer.at_rest():
        show(trainer.game, trainer.stream, tmp_path / "shown.png", 0, {})
    able = any(can(trainer.game, task) for task in ("sample", "translate", "upscale", "inpaint", "edit"))
    assert (tmp_path / "shown.png").exists() == able


@every_variant
def test_a_look_of_the_watch_changes_nothing_and_its_signs_are_numbers(variant: Variant) -> None:
    trainer = variant.trainer()
    play(trainer, 2)
    watch, before = Watch(trainer), (weights(trainer.game), trainer.state())
    modes = [module.training for module in trainer.game.modules()]
    found = watch.look() | watch.look()
    assert_identical((weights(trainer.game), trainer.state()), before)
    assert [module.training for module in trainer.game.modules()] == modes
    assert all(math.isfinite(value) for value in found.values())
    assert ("health/spread" in found) == can(trainer.game, "sample")


@every_variant
def test_pictures_outside_a_hole_stay_as_they_are(variant: Variant) -> None:
    game, batch = variant.build().eval(), variant.batch(6)
    if not isinstance(game, Inpaints) or not isinstance(batch, Masked):
        pytest.skip("fills no holes")
    with torch.no_grad():
        filled = game.inpaint(batch.image, batch.mask)
    outside = (batch.mask == 0).expand_as(filled)
    assert torch.equal(filled[outside], batch.image[outside])


@every_game
def test_its_name_is_its_files_name_and_it_speaks_of_its_paper(name: str) -> None:
    cls = zoo.find(name)
    assert registered_name(cls) == name
    assert Path(inspect.getfile(cls)).stem == name.replace("-", "_")
    assert "$" in (cls.__doc__ or ""), "the objective, in LaTeX"
    paper = zoo.catalogue()[name].paper
    assert paper.endswith(".")
    assert len(paper) > 20


@every_game
def test_every_hyper_parameter_is_typed_has_a_default_and_is_explained(name: str) -> None:
    cls = zoo.find(name)
    helps = help_of(cls)
    for parameter in hyper_parameters(cls).values():
        assert parameter.annotation is not Any, parameter
        assert parameter.default is not parameter.empty, parameter
        assert len(helps.get(parameter.name, "")) > 8, f"Args: says nothing of {parameter.name}"
    assert helps.keys() == hyper_parameters(cls).keys()


@every_game
def test_its_options_and_presets_are_options_of_train(name: str) -> None:
    cls = zoo.find(name)
    common = set(names_of(TrainOptions))
    assert not common & set(names_of(options_of(cls)))
    for preset in cls.presets.values():
        assert set(preset.options) <= common | set(hyper_parameters(cls))
        assert preset.about


@every_variant
def test_its_data_specification_survives_json(variant: Variant) -> None:
    spec = variant.source().spec
    assert spec_from_json(spec_to_json(spec)) == spec
