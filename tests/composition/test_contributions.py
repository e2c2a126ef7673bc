import numpy as np
import pytest
import torch

from patchcollide.composition.contributions import Contributions, contributions_of
from patchcollide.composition.mixing import mix_patches, tent_logits
from patchcollide.errors import RunError
from patchcollide.geometry import Canvas
from tests.composition.test_mixing import upsample_logits


def loop_coefficients(logits, frame, canvas):
    """Softmax coefficients of one vertex at each pixel of the image, one at a time in float64."""
    k, rows, cols = logits.shape[:3]
    side = canvas.stride * (rows - 1) + canvas.support
    field = torch.full((rows, cols, k, side, side), -torch.inf, dtype=torch.float64)
    for row in range(rows):
        for col in range(cols):
            for rank in range(k):
                tile = upsample_logits(logits[rank, row, col], canvas.support) + frame
                top, left = row * canvas.stride, col * canvas.stride
                field[row, col, rank, top:, left:][: canvas.support, : canvas.support] = tile
    coefficients = field.reshape(-1, side, side).softmax(dim=0)
    return coefficients[:, canvas.crop, canvas.crop]


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize(
    ("canvas", "num_blocks"),
    [
        (Canvas(14, 6, 4, 0), 7),
        (Canvas(14, 6, 4, 0), 5),
        (Canvas(6, 6, 4, 0), 1),
        (Canvas(10, 4, 3, 1), 4),
    ],
)
def test_contributions_are_the_mean_coefficients_of_blocks(canvas, num_blocks, size, k, generator):
    per_side = canvas.positions_per_side
    shape = (2, k, per_side, per_side, size, size)
    logits = torch.randn(shape, generator=generator)
    frame = tent_logits(canvas.support)
    found = contributions_of(logits, frame, canvas, num_blocks=num_blocks, most=4)
    owner = np.arange(canvas.image_size) * num_blocks // canvas.image_size
    for vertex in range(2):
        plain = loop_coefficients(logits[vertex], frame, canvas)
        np.testing.assert_allclose(
            found.shares[vertex].ravel(), plain.mean(dim=(1, 2)), rtol=1e-5, atol=1e-7
        )
        assert found.shares[vertex].sum() == pytest.approx(1, abs=1e-5)
        for row in range(num_blocks):
            for col in range(num_blocks):
                block = plain[:, owner == row][:, :, owner == col].mean(dim=(1, 2))
                most = found.parts.shape[-1]
                largest = block.sort(descending=True).values[:most]
                parts = found.parts[vertex, row, col]
                np.testing.assert_allclose(parts, largest, rtol=1e-5, atol=1e-7)
                numbers = found.locations[vertex, row, col] * k + found.ranks[vertex, row, col]
                np.testing.assert_allclose(block[numbers], parts, rtol=1e-5, atol=1e-7)


def test_parts_explain_a_mixture_of_flat_patches(generator):
    # Of patches of one colour each, the mean colour of a block is their parts' mixture.
    canvas, k = Canvas(14, 6, 4, 0), 2
    logits = torch.randn(1, k, 3, 3, 6, 6, generator=generator)
    colours = torch.rand(k, 3, 3, 3, generator=generator)
    patches = colours.permute(0, 3, 1, 2)[..., None, None].expand(k, 3, 3, 3, 6, 6).contiguous()
    frame = tent_logits(6)
    mixture = mix_patches(logits, patches, 4, frame)[0]
    found = contributions_of(logits, frame, canvas, num_blocks=1, most=k * 9)
    locations, ranks = found.locations[0, 0, 0], found.ranks[0, 0, 0]
    named = colours[ranks, locations // 3, locations % 3]
    explained = (torch.from_numpy(found.parts[0, 0, 0])[:, None] * named).sum(dim=0)
    assert torch.allclose(explained, mixture.mean(dim=(1, 2)), atol=1e-5)


def saved(path):
    canvas = Canvas(14, 6, 4, 0)
    logits = torch.zeros(1, 2, 3, 3, 1, 1)
    found = contributions_of(logits, tent_logits(6), canvas, num_blocks=2, most=3)
    found.save(path, "a" * 64)
    return found


def test_they_are_read_as_they_were_written(tmp_path):
    found = saved(tmp_path / "c.h5")
    again = Contributions.load(tmp_path / "c.h5", "a" * 64)
    for name, value in vars(found).items():
        np.testing.assert_array_equal(getattr(again, name), value)


def test_those_of_another_run_are_refused(tmp_path):
    saved(tmp_path / "c.h5")
    with pytest.raises(RunError, match="belongs to another run"):
        Contributions.load(tmp_path / "c.h5", "b" * 64)


def test_numbers_out_of_range_are_refused(tmp_path):
    found = saved(tmp_path / "c.h5")
    found.ranks[0, 0, 0, 0] = 7
    found.save(tmp_path / "c.h5", "a" * 64)
    with pytest.raises(RunError, match="ranks should be 0 to 1"):
        Contributions.load(tmp_path / "c.h5", "a" * 64)
