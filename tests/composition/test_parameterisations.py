import numpy as np
import pytest
import torch

from patchcollide.composition.mixing import tent_logits
from patchcollide.composition.parameterisations import FreePixels, PatchMixture
from patchcollide.composition.total_variation import total_variation
from patchcollide.errors import GeometryError
from patchcollide.geometry import PatchGrid
from patchcollide.images.tensors import resized
from tests.composition.test_mixing import slow_coefficients, upsample_logits

GRID = PatchGrid(image_size=13, window_size=5, stride=4, patch_size=5)
GRIDS = [GRID, PatchGrid(8, 8, 8, 8), PatchGrid(3, 1, 1, 1), PatchGrid(7, 3, 2, 3)]


def random_patches(grid, k, rng):
    shape = (grid.num_positions, k, grid.window_size, grid.window_size, 3)
    return rng.integers(0, 256, shape, dtype=np.uint8)


def mixture_of(patches, grid, generator, **changes):
    settings = {
        "num_vertices": 2,
        "coefficient_size": grid.window_size,
        "output_size": grid.image_size,
        "noise": 0.0,
        "generator": generator,
    }
    return PatchMixture(patches, grid, **(settings | changes))


def tent_weighted_average(patches, grid):
    """The mean of what covers a pixel, weighted by how far it is from its window's border."""
    total = np.zeros((3, grid.image_size, grid.image_size))
    weights = np.zeros((grid.image_size, grid.image_size))
    window = grid.window_size
    for (top, left), neighbours in zip(grid.corners_px(), patches, strict=True):
        for patch in neighbours:
            for i in range(window):
                for j in range(window):
                    weight = min(i + 0.5, window - i - 0.5) * min(j + 0.5, window - j - 0.5)
                    total[:, top + i, left + j] += weight * patch[i, j] / 255
                    weights[top + i, left + j] += weight
    return total / weights


@pytest.mark.parametrize("coefficient_size", [1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_mixture_starts_as_the_tent_weighted_average_of_all_neighbours(
    grid, k, coefficient_size, rng, generator
):
    patches = random_patches(grid, k, rng)
    size = min(coefficient_size, grid.window_size)
    images = mixture_of(patches, grid, generator, coefficient_size=size, num_vertices=3).images()
    assert images.dtype == torch.float32
    expected = tent_weighted_average(patches, grid)
    for image in images.detach().numpy():
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
@pytest.mark.parametrize("noise", [0.1, 100.0])
def test_vertices_differ_at_the_start_when_there_is_noise(num_vertices, noise, rng, generator):
    patches = random_patches(GRID, 3, rng)
    images = mixture_of(patches, GRID, generator, num_vertices=num_vertices, noise=noise).images()
    assert images.shape == (num_vertices, 3, 13, 13)
    assert len({image.numpy().tobytes() for image in images.detach()}) == num_vertices
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-6


def test_noise_has_the_standard_deviation_asked_for(rng, generator):
    patches = random_patches(GRID, 3, rng)
    mixture = mixture_of(patches, GRID, generator, num_vertices=8, noise=0.25)
    assert mixture.parameter.std().item() == pytest.approx(0.25, rel=0.05)


def test_a_logit_moves_its_own_patch_at_its_own_location_in_its_own_vertex(rng, generator):
    patches = random_patches(GRID, 2, rng)
    mixture = mixture_of(patches, GRID, generator, coefficient_size=1)
    with torch.no_grad():
        # Vertex 1, neighbour 1, row 2, column 0 outweighs everything.
        mixture.parameter[1, 1, 2, 0] = 100
    images = mixture.images().detach().numpy()
    window = patches[2 * 3 + 0, 1].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(images[1][:, 8:13, 0:5], window, rtol=0, atol=1e-6)
    average = tent_weighted_average(patches, GRID)
    np.testing.assert_allclose(images[0], average, rtol=0, atol=1e-6)
    np.testing.assert_allclose(images[1][:, :8], average[:, :8], rtol=0, atol=1e-6)


@pytest.mark.parametrize("output_size", [1, 9, 26])
def test_a_canvas_is_scaled_to_the_size_that_the_network_takes(output_size, rng, generator):
    patches = random_patches(GRID, 2, rng)
    canvas = mixture_of(patches, GRID, generator).images()
    images = mixture_of(patches, GRID, generator, output_size=output_size).images()
    expected = torch.nn.functional.interpolate(
        canvas, (output_size, output_size), mode="bilinear", antialias=True
    )
    assert images.shape == (2, 3, output_size, output_size)
    torch.testing.assert_close(images, expected)
    # Antialiased: every pixel of the canvas counts, so the mean survives scaling by half or two.
    assert images.mean().item() == pytest.approx(canvas.mean().item(), abs=0.02)
    images.sum().backward()


def test_images_of_the_right_size_are_passed_on_untouched(generator):
    images = torch.rand(1, 3, 4, 4, generator=generator)
    assert resized(images, 4) is images


def test_read_only_patches_are_taken_and_left_as_they_are(rng, generator):
    patches = random_patches(GRID, 2, rng)
    before = patches.copy()
    patches.flags.writeable = False
    mixture_of(patches, GRID, generator).images()
    assert np.array_equal(patches, before)


@pytest.mark.parametrize("coefficient_size", [6, 32])
def test_more_coefficients_than_pixels_are_refused(coefficient_size, rng, generator):
    with pytest.raises(GeometryError, match=rf"{coefficient_size}, but a patch has only 5 pixels"):
        mixture_of(random_patches(GRID, 1, rng), GRID, generator, coefficient_size=coefficient_size)


@pytest.mark.parametrize("coefficient_size", [1, 2, 5])
def test_roughness_of_a_mixture_is_the_variation_of_its_coefficients(
    coefficient_size, rng, generator
):
    patches = random_patches(GRID, 2, rng)
    mixture = mixture_of(patches, GRID, generator, coefficient_size=coefficient_size, noise=1.0)
    logits = upsample_logits(mixture.parameter, 5) + tent_logits(5)
    expected = total_variation(slow_coefficients(logits, 4))
    roughness = mixture.roughness()
    assert roughness.item() == pytest.approx(expected.item(), rel=1e-5)
    assert expected > 0
    roughness.backward()
    assert mixture.parameter.grad.abs().max() > 0


def test_projecting_a_mixture_changes_nothing(rng, generator):
    mixture = mixture_of(random_patches(GRID, 2, rng), GRID, generator, noise=50.0)
    before = mixture.parameter.detach().clone()
    mixture.project()
    assert torch.equal(mixture.parameter, before)


@pytest.mark.parametrize("num_vertices", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_free_pixels_start_from_the_source(num_vertices, size, rng, generator):
    source = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    source.flags.writeable = False
    pixels = FreePixels(
        source, num_vertices=num_vertices, output_size=size, noise=0.0, generator=generator
    )
    images = pixels.images().detach()
    assert images.shape == (num_vertices, 3, size, size)
    for image in images:
        np.testing.assert_array_equal((255 * image).round().permute(1, 2, 0), source)


def test_noise_of_free_pixels_is_in_hundredths_of_the_value_range_and_clipped(rng, generator):
    grey = np.full((40, 40, 3), 127, dtype=np.uint8)
    options = {"num_vertices": 2, "output_size": 40, "generator": generator}
    start = FreePixels(grey, noise=2.0, **options).images()
    assert (start - 127 / 255).std().item() == pytest.approx(0.02, rel=0.05)
    black = FreePixels(np.zeros_like(grey), noise=200.0, **options).images()
    assert black.min() == 0
    assert black.max() == 1


def test_free_pixels_take_the_size_of_the_network(rng, generator):
    source = np.full((20, 20, 3), 51, dtype=np.uint8)
    pixels = FreePixels(source, num_vertices=2, output_size=9, noise=0.0, generator=generator)
    torch.testing.assert_close(pixels.images().detach(), torch.full((2, 3, 9, 9), 0.2))


def test_projecting_free_pixels_clips_them_to_the_value_range(rng, generator):
    source = np.full((2, 2, 3), 51, dtype=np.uint8)
    pixels = FreePixels(source, num_vertices=1, output_size=2, noise=0.0, generator=generator)
    with torch.no_grad():
        pixels.parameter[0, 0] = torch.tensor([[-1.0, 2.0], [0.0, 1.0]])
    pixels.project()
    assert pixels.images()[0, 0].tolist() == [[0, 1], [0, 1]]
    torch.testing.assert_close(pixels.images()[0, 1:].detach(), torch.full((2, 2, 2), 0.2))


def test_roughness_of_free_pixels_is_their_own_variation(rng, generator):
    source = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    pixels = FreePixels(source, num_vertices=2, output_size=5, noise=0.0, generator=generator)
    scaled = source.astype(np.float64) / 255
    down, across = np.abs(np.diff(scaled, axis=0)).mean(), np.abs(np.diff(scaled, axis=1)).mean()
    assert pixels.roughness().item() == pytest.approx(down + across, rel=1e-5)
