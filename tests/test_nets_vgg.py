"""Perceptual features, against a VGG19 put together from torch's own layers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ganforge.errors import RequestError
from ganforge.nets import vgg

MAPS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512, 0)


def reference() -> nn.Sequential:
    """As torchvision lays it out: convolution, ReLU, ..., with poolings between."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    inputs = 3
    for maps in MAPS:
        layers += [nn.Conv2d(inputs, maps, 3, padding=1), nn.ReLU()] if maps else [nn.MaxPool2d(2)]
        inputs = maps or inputs
    return nn.Sequential(*layers)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save({f"features.{name}": value for name, value in reference().state_dict().items()}, path)
    return path


def seen(image: Tensor) -> Tensor:
    """From [-1, 1] to what ImageNet's networks were trained on."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((image + 1) / 2 - mean[:, None, None]) / deviation[:, None, None]


@pytest.mark.parametrize(("layer", "last"), [("1_1", 2), ("2_2", 9), ("3_4", 18), ("5_4", 36)])
def test_the_maps_are_those_of_torchs_own_layers(weights: Path, layer: str, last: int) -> None:
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(vgg.VGG19(str(weights), layer)(image), reference()[:last](seen(image)))
    torch.testing.assert_close(vgg.VGG19(str(weights), layer, activated=False)(image), reference()[: last - 1](seen(image)))


def test_grey_pictures_count_as_three_equal_channels(weights: Path) -> None:
    grey, net = torch.rand(1, 1, 16, 16) * 2 - 1, vgg.VGG19(str(weights), "2_1")
    torch.testing.assert_close(net(grey), net(grey.expand(-1, 3, -1, -1)))


def test_it_learns_nothing_and_is_stored_nowhere(weights: Path) -> None:
    net = vgg.VGG19(str(weights), "1_2")
    assert not list(net.parameters())
    assert not net.state_dict()
    image = torch.zeros(1, 3, 8, 8, requires_grad=True)
    net(image).sum().backward()
    assert image.grad is not None
    assert image.grad.any()


def test_safetensors_are_read_too(weights: Path, tmp_path: Path) -> None:
    save_file(torch.load(weights, weights_only=True), tmp_path / "vgg19.safetensors")
    image = torch.rand(1, 3, 8, 8)
    assert torch.equal(vgg.VGG19(str(tmp_path / "vgg19.safetensors"), "2_1")(image), vgg.VGG19(str(weights), "2_1")(image))


@pytest.mark.parametrize("layer", ["6_1", "1_3", "5_5", "relu5_4", ""])
def test_a_layer_that_there_is_not_is_refused(layer: str) -> None:
    with pytest.raises(RequestError, match="a VGG19 has 1_1"):
        vgg.VGG19("nowhere", layer)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="there is no such file"):
        vgg.VGG19(str(tmp_path / "none.pth"))
    (tmp_path / "text.pth").write_text("not weights")
    with pytest.raises(RequestError, match="not a file of weights"):
        vgg.VGG19(str(tmp_path / "text.pth"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(RequestError, match="holds list"):
        vgg.VGG19(str(tmp_path / "list.pth"))
    torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(RequestError, match=r"features\.0\.weight .* is \[64, 3, 3, 3\]; there it is \[64, 1, 3, 3\]"):
        vgg.VGG19(str(tmp_path / "other.pth"))


def test_the_published_file_is_asked_for_by_its_hash_and_a_failed_download_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def no_network(url: str, _path: str, hash_prefix: str, **_options: object) -> None:
        asked.extend([url, hash_prefix])
        raise OSError("no route to host")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    with pytest.raises(RequestError, match=r"VGG19's weights could not be fetched from .* \(no route to host\); give a file"):
        vgg.VGG19("vgg19")
    assert asked[0].endswith("vgg19-dcbb9e9d.pth")
    assert asked[1] == "dcbb9e9d"
