"""TorchScript, run step by step: so that what happens in it can be watched, and changed.

A scripted or traced module runs outside Python: no hook and no mode sees what it does. Its graph
says it all, though, and is a short list of PyTorch's operators and a few words of control.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from patchcollide.errors import NetworkError

# Their arguments are no tensors, or may be either, and Python knows what they do.
_IN_PYTHON: Mapping[str, Callable[..., Any]] = {
    "aten::__getitem__": operator.getitem,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": operator.not_,
    "aten::__contains__": operator.contains,
    # The rest is about libraries, and only known to the operator that traces see.
    "aten::_convolution": lambda *given: torch.convolution(*given[:9]),
    "aten::append": lambda items, item: items.append(item) or items,
    "aten::format": lambda text, *values: text.format(*values),
    "aten::len": len,
    "prim::NumToTensor": torch.tensor,
    "prim::TupleIndex": operator.getitem,
    "prim::device": lambda tensor: tensor.device,
    "prim::dtype": lambda tensor: tensor.dtype,
    "prim::is_cuda": lambda tensor: tensor.is_cuda,
    "prim::max": max,
    "prim::min": min,
    "prim::unchecked_cast": lambda value: value,
    "prim::unchecked_unwrap_optional": lambda value: value,
    "prim::Uninitialized": lambda: None,
}


class _Kept:
    """A part of TorchScript, which never changes: copies of modules share it."""

    def __init__(self, part: nn.Module) -> None:
        # Of a script, whose type PyTorch's own annotations do not tell.
        self.part: Any = part

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Kept":
        return self


class _Part(nn.Module):
    """The parameters, buffers and parts of a scripted module, by the same names."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self._kept = _Kept(part)
        self.training = part.training
        for name, parameter in part.named_parameters(recurse=False):
            self.register_parameter(name, nn.Parameter(parameter.detach(), requires_grad=False))
        for name, buffer in part.named_buffers(recurse=False):
            self.register_buffer(name, buffer.detach())
        for name, child in part.named_children():
            self.add_module(name, _Part(child))

    def attribute(self, name: str) -> Any:
        """Returns what the script calls so."""
        for own in (self._parameters, self._buffers, self._modules):
            if name in own:
                return own[name]
        return self.training if name == "training" else getattr(self._kept.part, name)


class UnscriptedModule(_Part):
    """A module of TorchScript as one that computes the same in Python.

    Args:
        module: Scripted or traced; its parameters are shared.

    Raises:
        NetworkError: In a pass, if it does what is not known.
    """

    def forward(self, *inputs: Any) -> Any:
        """Runs the script's forward."""
        graph = self._kept.part.inlined_graph
        names = [value.debugName() for value in graph.inputs()]
        given = dict(zip(names, (self, *inputs), strict=False))
        outputs = _run(graph, dict.fromkeys(names) | given)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _run(block: Any, values: dict[str, Any]) -> list[Any]:
    """Runs the steps of a block in order; values are known by the names that the graph has."""
    for node in block.nodes():
        found = _step(node, [values[value.debugName()] for value in node.inputs()], values)
        outputs = [value.debugName() for value in node.outputs()]
        values.update(zip(outputs, found, strict=True))
    return [values[value.debugName()] for value in block.outputs()]


def _step(node: Any, given: Sequence[Any], values: dict[str, Any]) -> Sequence[Any]:
    """Runs one step; returns its outputs."""
    kind = node.kind()
    if kind == "prim::Constant":
        return [node.output().toIValue()]
    if kind == "prim::GetAttr":
        return [given[0].attribute(node.s("name"))]
    if kind in ("prim::ListConstruct", "prim::TupleConstruct"):
        return [list(given) if "List" in kind else tuple(given)]
    if kind == "prim::DictConstruct":
        return [dict(zip(given[::2], given[1::2], strict=True))]
    if kind in ("prim::ListUnpack", "prim::TupleUnpack"):
        return list(given[0])
    if kind == "prim::If":
        return _run(list(node.blocks())[0 if given[0] else 1], values)
    if kind == "prim::Loop":
        return _loop(next(iter(node.blocks())), given, values)
    if kind == "prim::RaiseException":
        raise RuntimeError(str(given[0]))
    return _computed(node, given)


def _loop(block: Any, given: Sequence[Any], values: dict[str, Any]) -> Sequence[Any]:
    most, goes_on, *carried = given
    names = [value.debugName() for value in block.inputs()]
    count = 0
    while goes_on and count < most:
        values.update(zip(names, [count, *carried], strict=True))
        goes_on, *carried = _run(block, values)
        count += 1
    return carried


def _computed(node: Any, given: Sequence[Any]) -> Sequence[Any]:
    kind = node.kind()
    if kind in _IN_PYTHON:
        return [_IN_PYTHON[kind](*given)] if node.outputsSize() else []
    library, _, name = kind.partition("::")
    if library in ("prim", "onnx") or node.schema() == "(no schema)":
        raise NetworkError(
            f"a module of TorchScript cannot be watched where it does {kind}. Give the module "
            "before it was scripted or traced."
        )
    schema = torch._C.parse_schema(node.schema())
    by_place = [
        value
        for value, argument in zip(given, schema.arguments, strict=True)
        if not argument.kwarg_only
    ]
    by_name = {
        argument.name: value
        for value, argument in zip(given, schema.arguments, strict=True)
        if argument.kwarg_only
    }
    found = getattr(getattr(torch.ops, library), name)(*by_place, **by_name)
    if node.outputsSize() == 1:
        return [found]
    return list(found) if node.outputsSize() else []
