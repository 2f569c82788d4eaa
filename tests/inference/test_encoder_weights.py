"""Pretrained encoders: the same tokens as torch's own transformer, and where they are from."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from napari_emda.errors import EmdaError
from napari_emda.inference import checkpoint
from napari_emda.inference.encoder_weights import load_encoder, settings_of_file
from napari_emda.nn.network import networks
from tests.cli.calling import answer as emda
from tests.cli.calling import call
from tests.conftest import SMALL_TRAINING

WIDTH, LAYERS, SIDE, GRID = 64, 2, 8, 4
SOURCE = {"license": "CC-BY-4.0", "source": "https://example.org/encoder"}


def encoder(grid=GRID, side=SIDE, scale=True, prefix=""):
    """Weights of a small vision transformer in the layout of timm and DINOv2."""
    torch.manual_seed(0)
    shapes = {
        "cls_token": (1, 1, WIDTH),
        "pos_embed": (1, 1 + grid**2, WIDTH),
        "patch_embed.proj.weight": (WIDTH, 3, side, side),
        "patch_embed.proj.bias": (WIDTH,),
        "norm.weight": (WIDTH,),
        "norm.bias": (WIDTH,),
        "head.weight": (10, WIDTH),
    }
    for i in range(LAYERS):
        of_block = {
            "norm1.weight": (WIDTH,),
            "norm1.bias": (WIDTH,),
            "attn.qkv.weight": (3 * WIDTH, WIDTH),
            "attn.qkv.bias": (3 * WIDTH,),
            "attn.proj.weight": (WIDTH, WIDTH),
            "attn.proj.bias": (WIDTH,),
            "norm2.weight": (WIDTH,),
            "norm2.bias": (WIDTH,),
            "mlp.fc1.weight": (4 * WIDTH, WIDTH),
            "mlp.fc1.bias": (4 * WIDTH,),
            "mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            "mlp.fc2.bias": (WIDTH,),
            **({"ls1.gamma": (WIDTH,), "ls2.gamma": (WIDTH,)} if scale else {}),
        }
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in of_block.items()}
    return {f"{prefix}{name}": torch.randn(shape) * 0.2 for name, shape in shapes.items()}


def reference(weights, image):
    """Tokens by torch's own layers, of an image of one window in three equal colours."""
    kernel = weights["patch_embed.proj.weight"]
    bias = weights["patch_embed.proj.bias"]
    patches = nn.functional.conv2d(image.expand(-1, 3, -1, -1), kernel, bias, stride=SIDE)
    tokens = torch.cat([weights["cls_token"], patches.flatten(2).transpose(1, 2)], 1)
    tokens = tokens + weights["pos_embed"]
    for i in range(LAYERS):
        own = {k.split(".", 2)[2]: v for k, v in weights.items() if k.startswith(f"blocks.{i}.")}
        layer = nn.TransformerEncoderLayer(
            WIDTH, 1, 4 * WIDTH, 0, "gelu", 1e-6, batch_first=True, norm_first=True
        )
        first, second = (
            own.get("ls1.gamma", torch.ones(WIDTH)),
            own.get("ls2.gamma", torch.ones(WIDTH)),
        )
        layer.load_state_dict(
            {
                "self_attn.in_proj_weight": own["attn.qkv.weight"],
                "self_attn.in_proj_bias": own["attn.qkv.bias"],
                # A factor for each feature of the result.
                "self_attn.out_proj.weight": own["attn.proj.weight"] * first[:, None],
                "self_attn.out_proj.bias": own["attn.proj.bias"] * first,
                "linear1.weight": own["mlp.fc1.weight"],
                "linear1.bias": own["mlp.fc1.bias"],
                "linear2.weight": own["mlp.fc2.weight"] * second[:, None],
                "linear2.bias": own["mlp.fc2.bias"] * second,
                **{f"norm{n}.{k}": own[f"norm{n}.{k}"] for n in (1, 2) for k in ("weight", "bias")},
            }
        )
        tokens = layer(tokens)
    return nn.functional.layer_norm(
        tokens, (WIDTH,), weights["norm.weight"], weights["norm.bias"], 1e-6
    )


@pytest.mark.parametrize("scale", [False, True])
def test_tokens_are_those_of_torch_s_own_transformer(scale, tmp_path):
    weights = encoder(scale=scale, prefix="backbone.")
    path = tmp_path / "encoder.safetensors"
    save_file(weights, path, SOURCE)
    cls = networks["vit"]
    values = settings_of_file("vit", path, {"window": 32, "base_channels": 8})
    assert (values["width"], values["layers"]) == (WIDTH, LAYERS)
    network = cls(2, cls.Settings.parse(values)).eval()
    said = load_encoder(path, network)
    assert "CC-BY-4.0" in said and "https://example.org/encoder" in said
    image = torch.randn(1, 1, 32, 64)
    with torch.no_grad():
        _, tokens, whole = network.encode(image)
        bare = {name.removeprefix("backbone."): tensor for name, tensor in weights.items()}
        for column in (0, 1):
            expected = reference(bare, image[..., 32 * column : 32 * (column + 1)])
            seen = tokens[0, :, :, GRID * column : GRID * (column + 1)].flatten(1).T
            torch.testing.assert_close(seen, expected[0, 1:], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(whole[0, :, 0, column], expected[0, 0], atol=1e-4, rtol=1e-4)


def test_other_sides_and_grids_are_resized(tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_file(encoder(grid=7, side=14), path)
    cls = networks["vit"]
    values = settings_of_file("vit", path, {"window": 128, "patch_side": 16, "base_channels": 8})
    network = cls(2, cls.Settings.parse(values)).eval()
    before = network.encoder.transformer.pos_embed.clone()
    assert "not stated" in load_encoder(path, network)
    assert not torch.equal(network.encoder.transformer.pos_embed, before)
    # A constant image gives about the same token, however large the kernel is.
    old = encoder(grid=7, side=14)
    expected = old["patch_embed.proj.weight"].sum((1, 2, 3))
    result = network.encoder.transformer.patch_embed.proj.weight.sum((1, 2, 3))
    assert np.corrcoef(expected, result.detach())[0, 1] > 0.95


def test_a_model_says_where_its_encoder_is_from(make_project, tmp_path):
    path = tmp_path / "encoder.safetensors"
    save_file(encoder(), path, SOURCE)
    folder = tmp_path / "p"
    make_project(folder).close()
    chosen = {**SMALL_TRAINING, "network": "vit", "weights": path, "window": 32, "steps": 2}
    options = [f"--set={key}={value}" for key, value in chosen.items()]
    options += ["--set=base_channels=8", "--set=learning=decoder"]
    status, _, err = call("train", folder, "--method", "source_only", *options)
    assert status == 0, err
    assert "The encoder is 'encoder.safetensors', from https://example.org/encoder" in err
    header, method = checkpoint.load_method(
        folder / "runs" / "001-source_only" / "checkpoint.safetensors"
    )
    settings = method.network.settings
    assert settings.weights == "encoder.safetensors"
    assert settings.weights_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert settings.weights_licence == "CC-BY-4.0"
    job = json.loads((folder / "runs" / "001-source_only" / "job.json").read_text())
    assert job["network_settings"] == header.network.settings
    # The decoder alone has learnt.
    block = method.network.encoder.transformer.blocks[0]
    assert torch.equal(block.attn.qkv.weight, encoder()["blocks.0.attn.qkv.weight"])
    # Another run goes on without the file.
    path.unlink()
    again = emda("train", folder, "--method", "source_only", "--from", "001-source_only", *options)
    assert again["run"] == "002-source_only"
    status, _, err = call("train", folder, "--method", "source_only", *options)
    assert status == 2 and "does not exist: check its path" in err
    status, _, err = call(
        *("train", folder, "--method", "source_only", "--set=network=vit", "--set=window=64"),
        *("--set=patch=32", "--steps", 1),
    )
    assert status == 2 and "choose patch=64, or a smaller window" in err
    assert header.network.settings["width"] == WIDTH


@pytest.mark.parametrize(
    ("change", "values", "sentence"),
    [
        (lambda w: w.pop("blocks.1.mlp.fc1.weight"), {}, "blocks.1.mlp.fc1.weight' is missing"),
        (lambda w: w.pop("patch_embed.proj.weight"), {}, "holds no plain vision transformer"),
        (
            lambda w: w.update({"blocks.0.attn.rel_pos_h": torch.zeros(27, 64)}),
            {},
            "relative positions, as that of SAM",
        ),
        (lambda w: None, {"weights_sha256": "0" * 64}, "weights_sha256 is another one"),
    ],
)
def test_another_file_is_refused_in_a_sentence(change, values, sentence, tmp_path):
    weights = encoder()
    change(weights)
    path = tmp_path / "encoder.safetensors"
    save_file(weights, path)
    cls = networks["vit"]
    with pytest.raises(EmdaError, match=sentence) as refused:
        resolved = settings_of_file("vit", path, {"window": 32, **values})
        load_encoder(path, cls(2, cls.Settings.parse(resolved)))
    assert str(refused.value).endswith(".")


def test_a_pickled_file_is_refused_unread(tmp_path):
    path = tmp_path / "encoder.pth"
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(EmdaError, match=r"must be a \.safetensors file"):
        settings_of_file("vit", path, {})
