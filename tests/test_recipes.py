"""Each recipe of the site runs as printed, draws its noise levels from p, and goes on where it stopped."""

import re
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DModel
from torch import Tensor

from memlib import MLP, TimestepDistribution, loss_at, uniform
from tests import standins

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^#+ ", PAGE, flags=re.M)[1:]
RECIPES = {text.partition("\n")[0]: "\n".join(re.findall(r"```python\n(.*?)```", text, re.S)) for text in SECTIONS}
START = RECIPES.pop("Recipes: your own loop")
RECIPES = {title: code for title, code in RECIPES.items() if code}
pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries


class OfSigma(MLP):
    """As smalldiffusion's networks: of x0 + sigma eps, sigma (B, 1) and perhaps classes (B,)."""

    def forward(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        return super().forward(x if cond is None else x + cond[:, None], sigma.flatten())

    def get_loss(self, x0: Tensor, sigma: Tensor, eps: Tensor, cond: None = None) -> Tensor:
        return (eps - self(x0 + sigma * eps, sigma)).square().mean()


class OfTheirs(UNet2DModel):  # with what denoising-diffusion-pytorch asks of a network
    channels = out_dim = 1
    self_condition = random_or_learned_sinusoidal_cond = False

    def forward(self, x: Tensor, t: Tensor, x_self_cond: Tensor | None = None) -> Tensor:
        return super().forward(x, t).sample


@pytest.fixture
def names(monkeypatch) -> dict:
    """A reader's networks and data, and the page's first lines, executed."""
    standins.install(monkeypatch)
    sizes = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1}
    sizes |= {"block_out_channels": (8, 8), "norm_num_groups": 4}
    found = {"net": MLP(2, 8, 1), "x0": torch.randn(4, 2), "pictures": torch.rand(4, 1, 8, 8) * 2 - 1}
    found |= {"unet": UNet2DModel(8, 1, 1, **sizes), "unet_of_theirs": OfTheirs(8, 1, 1, **sizes)}
    found |= dict.fromkeys(("model_of_sigma", "net_of_class"), OfSigma(2, 8, 1)) | {"labels": torch.arange(4)}
    exec(compile(START, "recipes.md", "exec"), found)
    return found


def run(recipe: str, names: dict) -> None:
    exec(compile(RECIPES[recipe], "recipes.md", "exec"), names)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_runs_as_printed_and_draws_from_p(recipe: str, names, monkeypatch) -> None:
    drawn, draw = [], TimestepDistribution.sample
    monkeypatch.setattr(TimestepDistribution, "sample", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    run(recipe, names)
    if recipe == "Which p do I train now?":
        weight = names["equal"].effective_weight() / names["drawn"].effective_weight()
        sigma = names["schedule"].sigma
        torch.testing.assert_close(weight / weight[0], (sigma**2 + 0.25) / (sigma[0] ** 2 + 0.25), rtol=1e-9, atol=0)
        return
    if recipe == "Lightning":
        names["loss"] = names["module"].training_step(names["x0"], 0)
    assert len(drawn) >= 1
    assert names.get("loss", names.get("sigma")).isfinite().all()
    if denoiser := names.get("denoiser"):
        items = names["pictures"] if denoiser.net is names["unet"] or "pictures" in RECIPES[recipe] else names["x0"]
        assert [*denoiser.parameters()], "it holds the weights"
        at, g = [0, 500, denoiser.schedule.T - 2], torch.Generator().manual_seed(0)
        assert loss_at(denoiser, items, denoiser.schedule, at, generator=g).isfinite().all()


def test_lightning_keeps_p_as_a_hyperparameter_and_resumes_the_draws(names, tmp_path) -> None:
    run("Lightning", names)
    import pytorch_lightning

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = pytorch_lightning.Trainer(max_steps=2, enable_checkpointing=False, **quiet)
    trainer.fit(names["module"], torch.utils.data.DataLoader(torch.randn(8, 2), 4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    kept = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert kept["hyper_parameters"] == {"p": names["p"], "schedule": names["schedule"]}
    again = names["Diffusion"](MLP(2, 8, 1), uniform(), names["schedule"])
    again.load_state_dict(kept["state_dict"])
    torch.testing.assert_close(again.levels.generator.get_state(), names["module"].levels.generator.get_state())


def test_accelerate_resumes_the_draws(names, tmp_path) -> None:
    run("accelerate", names)
    names["accelerator"].save_state(tmp_path)
    expected = names["levels"].t(5)
    names["levels"].t(7)
    names["accelerator"].load_state(tmp_path)
    assert torch.equal(names["levels"].t(5), expected)
