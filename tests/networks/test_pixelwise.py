import pytest
import torch
from torch import nn

from patchcollide.networks.pixelwise import PixelConvolution, is_pixelwise

OTHERS = {
    "larger": nn.Conv2d(4, 8, 3),
    "strided": nn.Conv2d(4, 8, 1, stride=2),
    "grouped": nn.Conv2d(4, 8, 1, groups=2),
    "padded": nn.Conv2d(4, 8, 1, padding=1),
    "of float64": nn.Conv2d(4, 8, 1, dtype=torch.float64),
    "of a line": nn.Conv1d(4, 8, 1),
}


def answer_and_gradient(run, images):
    images = images.clone().requires_grad_()
    found = run(images)
    weights = torch.linspace(-1, 1, found.numel(), dtype=found.dtype).reshape(found.shape)
    return found.detach(), *torch.autograd.grad((found * weights).sum(), images)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, 1, 1), (1, 4, 7, 5), (1, 4, 80, 80), (3, 4, 7, 5)])
def test_it_answers_as_the_convolution_in_float64(shape, bias, layout):
    torch.manual_seed(1)
    conv = nn.Conv2d(4, 8, 1, bias=bias, padding="same").requires_grad_(False)
    images = torch.randn(shape).to(memory_format=layout)
    found = answer_and_gradient(PixelConvolution(conv.to(memory_format=layout)), images)
    expected = answer_and_gradient(conv.double(), images.double())
    for each, other in zip(found, expected, strict=True):
        torch.testing.assert_close(each.double(), other, rtol=1e-5, atol=1e-5)


def test_it_takes_an_image_without_a_batch():
    conv = nn.Conv2d(4, 8, 1).requires_grad_(False)
    image = torch.rand(4, 3, 2)
    assert torch.allclose(PixelConvolution(conv)(image), conv(image), atol=1e-6)


@pytest.mark.parametrize("kind", OTHERS)
def test_others_stay_as_they_are(kind):
    assert not is_pixelwise(OTHERS[kind])


def test_one_that_is_hooked_stays_as_it_is():
    conv = nn.Conv2d(4, 8, 1)
    assert is_pixelwise(conv)
    conv.register_forward_hook(lambda *_: None)
    assert not is_pixelwise(conv)
