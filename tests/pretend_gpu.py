"""A GPU for machines that have none: it says `cuda:0`, computes on the CPU, and keeps CUDA's rules.

    with pretended("Tesla T4", (7, 5)) as gpu:
        toongan.train(...)
    gpu.waits, gpu.operations

What it keeps: tensors of two devices do not mix. The host waits where it looks at a value, and where it copies without
pinned memory. Autocast has CUDA's lists. While a graph is captured, whatever waits is refused, and what was computed is
undone; a replay makes the same calls again, with every number of Python's as it was then.
What it does not: streams, asynchrony, the rounding of a GPU's kernels, a second GPU.
"""

import contextlib
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten
CUDA = torch.device("cuda", 0)
# Operations that give Python a number, or as many rows as the values say: the host must wait for them.
LOOKS = {
    aten._local_scalar_dense.default, aten.nonzero.default, aten.is_nonzero.default, aten.equal.default,
    aten.masked_select.default,
}  # fmt: skip
COPIES = {aten._to_copy.default, aten.copy_.default}
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class WrongDevice(RuntimeError):
    """What CUDA says of tensors on two devices."""


class GPU:
    """The one that is pretended, and all that happened on it.

    Attributes:
        operations: how often each was launched, by its name.
        waits: where the host waited for the device, and for what.
        captured: errors that were raised in captures.
        fail_at: the number of the operation of a capture that fails; None for none.
        work: of every operation that is no mere view, its name, floating-point operations, bytes read and written, and
            type of number.
    """

    def __init__(self, name: str, capability: tuple[int, int], memory: int, computes: bool):
        self.name, self.capability, self.memory, self.computes = name, capability, memory, computes
        self.tape: list | None = None
        self.before: dict[int, tuple] = {}
        self.pinned: dict[int, torch.UntypedStorage] = {}
        self.fail_at: int | None = None
        self.usable = True
        self.reset()

    def reset(self) -> None:
        """Forget what happened so far."""
        self.operations, self.waits, self.captured, self.work = Counter(), Counter(), [], []

    @property
    def launches(self) -> int:
        return sum(self.operations.values())

    def wait(self, what: str) -> None:
        self.waits[f"{what} at {caller()}"] += 1
        self.refuse(what)

    def refuse(self, what: str) -> None:
        """While a graph is captured, this may not be done."""
        if self.tape is not None:
            self.captured.append(f"{what} at {caller()}")
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({what})")

    def keep(self, tensor: torch.Tensor) -> None:
        """Remember the bytes of a tensor that a captured operation is about to change."""
        storage = tensor.untyped_storage()
        self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        return tensor.untyped_storage().data_ptr() in self.pinned

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        copy = tensor.detach().clone()
        self.pinned[copy.untyped_storage().data_ptr()] = copy.untyped_storage()
        return copy


def caller() -> str:
    """The line of the package, or of a cell, that did it."""
    for frame in reversed(traceback.extract_stack()):
        if "/toongan/" in frame.filename or "ipykernel" in frame.filename:
            return f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno}"
    return "?"


GPU_NOW: list[GPU] = []


class OnGPU(torch.Tensor):
    """A tensor that says it is on the GPU, around one on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(),
            dtype=inner.dtype, layout=inner.layout, device=CUDA,
        )  # fmt: skip

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    def __repr__(self) -> str:
        return f"OnGPU({self.inner})"

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def numpy(self, *_, **__):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    __array__ = numpy

    def tolist(self) -> list:
        return self.cpu().tolist()

    def __deepcopy__(self, memo: dict):
        if id(self) not in memo:
            copy = OnGPU(self.inner.detach().clone(memory_format=torch.preserve_format))
            if isinstance(self, torch.nn.Parameter):
                copy = torch.nn.Parameter(copy, self.requires_grad)
            memo[id(self)] = copy
        return memo[id(self)]

    def __reduce_ex__(self, protocol):
        """As CUDA's own: the file says where it was, and who loads it elsewhere must say so."""
        raise WrongDevice("a tensor of the GPU is about to be saved as one")

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return compute(function, args, kwargs or {})


class Dispatch(TorchDispatchMode):
    """Brings calls that name the GPU as their device to it."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, gpu = kwargs or {}, GPU_NOW[-1]
        device = kwargs.get("device")
        if any(isinstance(each, OnGPU) for each in tree_leaves((args, kwargs))):
            return compute(function, args, kwargs)
        if device is not None and torch.device(device).type == "cuda":
            return compute(function, args, kwargs)
        if function is aten._pin_memory.default:
            return gpu.pin(args[0])
        if function is aten.is_pinned.default:
            return gpu.is_pinned(args[0])
        if kwargs.get("pin_memory"):
            return gpu.pin(function(*args, **{**kwargs, "pin_memory": False}))
        return function(*args, **kwargs)


def compute(function, args: tuple, kwargs: dict):
    """One operation, with the rules of CUDA: on the CPU, its results wrapped again."""
    gpu = GPU_NOW[-1]
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, torch.Tensor)]
    wanted = torch.device(kwargs["device"]).type if kwargs.get("device") is not None else None
    there = any(isinstance(each, OnGPU) for each in tensors)
    to_gpu = there if wanted is None else wanted == "cuda"
    if function is aten.is_pinned.default:
        return False
    if not gpu.usable and (there or to_gpu):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")
    if function is aten.copy_.default:
        to_gpu = isinstance(args[0], OnGPU)
    gpu.operations[str(function).removeprefix("aten.").removesuffix(".default")] += 1
    check(gpu, function, args, kwargs, tensors, there, to_gpu)
    if gpu.tape is not None and gpu.fail_at == len(gpu.tape):
        gpu.captured.append(str(function))
        raise RuntimeError(f"CUDA error: operation failed due to a previous error during capture ({function})")

    inside = {name: value for name, value in kwargs.items() if name not in ("device", "pin_memory")}
    if "device" in kwargs:
        inside["device"] = torch.device("cpu")
    args_, inside = tree_map_only(OnGPU, lambda each: each.inner, (args, inside))
    if not gpu.computes:
        if function is aten._local_scalar_dense.default:
            return 1.0
        args_, inside = tree_map_only(torch.Tensor, lambda each: each.to("meta"), (args_, inside))
        inside |= {"device": torch.device("meta")} if "device" in inside else {}
    run = as_on_a_cpu(function, args_, inside, moved=function is aten._to_copy.default and there != to_gpu)
    if gpu.tape is not None:
        for tensor in changed(function, args_, inside):
            gpu.keep(tensor)
    result = run()
    if not function.is_view and not str(function).startswith(
        ("aten.empty", "aten._unsafe_view")
    ):  # which compute nothing
        gpu.work.append(work_of(function, args_, inside, result))
    if gpu.tape is not None:
        gpu.tape.append((str(function), run, result))
    if not to_gpu:
        return tree_map_only(
            torch.Tensor, lambda each: each if gpu.computes else torch.zeros_like(each, device="cpu"), result
        )
    wrapped = tree_map_only(torch.Tensor, OnGPU, result)
    if there and (function._schema.is_mutable or any(each.alias_info for each in function._schema.returns)):
        return return_and_correct_aliasing(function, args, kwargs, wrapped)
    return wrapped


def check(gpu: GPU, function, args, kwargs, tensors, there: bool, to_gpu: bool) -> None:
    """Raise what CUDA would raise, and note where the host waits."""
    elsewhere = [each for each in tensors if not isinstance(each, OnGPU)]
    name = str(function).removeprefix("aten.")
    if there and function in LOOKS:
        gpu.wait(name)
    if function in COPIES:
        source = args[1] if function is aten.copy_.default else args[0]
        asked = kwargs.get("non_blocking") or (function is aten.copy_.default and len(args) > 2 and args[2])
        if isinstance(source, OnGPU) != to_gpu:
            host = args[0] if function is aten.copy_.default and not to_gpu else source
            pinned = not isinstance(host, OnGPU) and gpu.is_pinned(host)
            if not asked or (to_gpu and not pinned):
                gpu.wait(f"{name} {'to' if to_gpu else 'from'} the GPU")
        return
    if function in INDEXING and there:
        places = [each for each in tree_leaves(args[1]) if isinstance(each, torch.Tensor)]
        if not isinstance(args[0], OnGPU):
            raise WrongDevice("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if any(not isinstance(each, OnGPU) or each.dtype == torch.bool for each in places):
            gpu.wait(f"{name} by a tensor of the CPU, or by true and false")
        return
    if there and any(each.ndim for each in elsewhere):
        shapes = [tuple(each.shape) for each in elsewhere]
        raise WrongDevice(f"Expected all tensors to be on the same device: {name} with {shapes} of the CPU")
    generator = kwargs.get("generator")
    if to_gpu and generator is not None and generator.device.type != "cuda":
        raise WrongDevice("Expected a 'cuda' device type for generator but found 'cpu'")


def as_on_a_cpu(function, args: tuple, kwargs: dict, moved: bool) -> Callable:
    """The call that computes the same on the CPU."""
    if moved and kwargs.get("dtype") is None:  # to another device, which here would be no copy
        form = kwargs.get("memory_format") or torch.preserve_format
        return lambda: args[0].clone(memory_format=form)
    if function is aten.cudnn_batch_norm.default:
        return lambda: (*aten.native_batch_norm(*args), torch.empty(0, dtype=torch.uint8, device=args[0].device))
    if function is aten.cudnn_batch_norm_backward.default:
        images, grad, weight, mean, variance, saved_mean, saved_variance, epsilon, _ = args
        values = grad, images, weight, mean, variance, saved_mean, saved_variance, True, epsilon, [True] * 3
        return lambda: aten.native_batch_norm_backward(*values)
    if function is aten._softmax.default and args[2]:  # from fp16 to fp32 in one go, which only CUDA can
        return lambda: function(args[0].float(), args[1], False)
    if function is aten._softmax_backward_data.default and args[3] != args[0].dtype:
        return lambda: function(*args[:3], args[0].dtype).to(args[3])
    return lambda: function(*args, **kwargs)


def work_of(function, args: tuple, kwargs: dict, result) -> tuple[str, int, int, torch.dtype | None]:
    """What an operation costs: as `torch.utils.flop_counter` counts, and every input and output moved once."""
    count = flop_registry.get(function.overloadpacket)
    flops = count(*args, **kwargs, out_val=result) if count else 0
    tensors = [each for each in tree_leaves((args, kwargs, result)) if isinstance(each, torch.Tensor)]
    moved = sum(each.numel() * each.element_size() for each in tensors)
    return str(function), flops, moved, tensors[0].dtype if tensors else None


def changed(function, args: tuple, kwargs: dict) -> list[torch.Tensor]:
    """The tensors that an operation writes to."""
    found = []
    for place, argument in enumerate(function._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            found += [each for each in tree_leaves(value) if isinstance(each, torch.Tensor)]
    return found


# --- gradients: PyTorch's own engine asks CUDA's driver, and there is none ----------------------


class Backward:
    """One pass from some results back to the leaves, node by node."""

    def __init__(self, create_graph: bool, inputs: list[torch.Tensor] | None):
        self.create_graph, self.inputs = create_graph, inputs
        self.wanted = {edge_of(each): place for place, each in enumerate(inputs or ())}
        self.found: list = [None] * len(self.wanted)
        self.waiting: Counter = Counter()
        self.gradients: dict = {}

    def run(self, results: list[torch.Tensor], gradients: list) -> tuple:
        with torch.set_grad_enabled(self.create_graph):
            edges = [edge_of(each) for each in results]
            self.count({node for node, _ in edges})
            for (node, place), result, gradient in zip(edges, results, gradients, strict=True):
                self.give(node, place, torch.ones_like(result) if gradient is None else gradient)
            ready = [node for node in {node for node, _ in edges} if not self.waiting[node]]
            while ready:
                ready += self.visit(ready.pop())
        return tuple(self.found)

    def count(self, nodes: set) -> None:
        """From how many others each node gets a gradient."""
        seen, stack = set(nodes), list(nodes)
        while stack:
            for following, _ in stack.pop().next_functions:
                if following is not None:
                    self.waiting[following] += 1
                    if following not in seen:
                        seen.add(following)
                        stack.append(following)

    def give(self, node, place: int, gradient: torch.Tensor | None) -> None:
        """Add a gradient to what a node has got at one of its places, in the form that it wants."""
        if gradient is None:
            return
        form = node._input_metadata[place]
        if gradient.device != form.device:
            raise WrongDevice(f"a gradient on {gradient.device} for a result on {form.device}")
        if gradient.shape != torch.Size(form.shape):
            gradient = gradient.sum_to_size(form.shape)
        gradient = gradient.to(form.dtype) if gradient.dtype != form.dtype else gradient
        if (node, place) in self.wanted:
            number = self.wanted[node, place]
            self.found[number] = added(self.found[number], gradient)
        slots = self.gradients.setdefault(node, [None] * len(node._input_metadata))
        slots[place] = added(slots[place], gradient)

    def visit(self, node) -> list:
        """Pass the gradients of a node on; gives the nodes that now have all of theirs."""
        slots = self.gradients.pop(node, None)
        if node.name() == "torch::autograd::AccumulateGrad":
            if slots is not None and slots[0] is not None and self.inputs is None:
                self.accumulate(node.variable, slots[0])
            return []
        passed = node(*slots) if slots is not None else [None] * len(node.next_functions)
        passed = passed if isinstance(passed, (tuple, list)) else (passed,)
        ready = []
        for (following, place), gradient in zip(node.next_functions, passed):
            if following is not None:
                self.give(following, place, gradient)
                self.waiting[following] -= 1
                ready += [following] if not self.waiting[following] else []
        return ready

    def accumulate(self, leaf: torch.Tensor, gradient: torch.Tensor) -> None:
        if leaf.grad is not None and self.create_graph:
            leaf.grad = leaf.grad + gradient
        elif leaf.grad is not None:
            leaf.grad.add_(gradient)
        else:
            gradient = gradient if self.create_graph else gradient.detach()
            if gradient.ndim > 1 and gradient.stride() != leaf.stride():  # a gradient lies in memory as its weight does
                gradient = torch.empty_like(leaf).copy_(gradient)
            leaf.grad = gradient


def edge_of(tensor: torch.Tensor) -> tuple:
    if tensor.grad_fn is not None:
        return tensor.grad_fn, tensor.output_nr
    return torch.autograd.graph.get_gradient_edge(tensor).node, 0


def added(one: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    return other if one is None else one + other


def as_list(value) -> list:
    return [value] if isinstance(value, torch.Tensor) else list(value)


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    results = as_list(tensors)
    Backward(create_graph, None).run(results, as_list(grad_tensors or [None] * len(results)))


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, **_):
    results = as_list(outputs)
    return Backward(create_graph, as_list(inputs)).run(results, as_list(grad_outputs or [None] * len(results)))


# --- streams and graphs -------------------------------------------------------------------------


class Event:
    def __init__(self, *_, **__):
        pass

    def record(self, *_) -> None:
        pass

    def query(self) -> bool:
        return True

    def synchronize(self) -> None:
        GPU_NOW[-1].refuse("event.synchronize")


class Stream:
    """A stream: only which is current is known."""

    current: "Stream | None" = None

    def __init__(self, *_, **__):
        pass

    def wait_stream(self, other) -> None:
        pass

    def wait_event(self, event) -> None:
        pass

    def record_event(self, *_) -> Event:
        return Event()

    def is_capturing(self) -> bool:
        return GPU_NOW[-1].tape is not None

    def synchronize(self) -> None:
        GPU_NOW[-1].wait("stream.synchronize")


@contextlib.contextmanager
def stream(chosen: Stream) -> Iterator[None]:
    before, Stream.current = Stream.current, chosen
    try:
        yield
    finally:
        Stream.current = before


class CUDAGraph:
    """A recording: its calls, each with its name, and with every number of Python's as it was."""

    calls: list = ()

    def replay(self) -> None:
        gpu = GPU_NOW[-1]
        for _, run, result in self.calls:
            again = run()
            for was, now in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if isinstance(was, torch.Tensor) and was.numel() and was.data_ptr() != now.data_ptr():
                    was.copy_(now.reshape(was.shape))  # its shape may have been changed in place since
        gpu.operations["replay"] += 1


@contextlib.contextmanager
def capture(graph: CUDAGraph, pool=None, stream: Stream | None = None, capture_error_mode: str = "global"):
    """Record; as on CUDA nothing is computed, so whatever was changed is put back."""
    gpu = GPU_NOW[-1]
    before, Stream.current = Stream.current, stream or Stream()
    gpu.tape, gpu.before = [], {}
    try:
        yield
        Stream.current = before  # where it fails, the stream of the capture stays the current one
    finally:
        graph.calls, gpu.tape = gpu.tape, None
        for storage, was in gpu.before.values():
            storage.copy_(was)


@contextlib.contextmanager
def pretended(
    name: str = "Tesla T4", capability: tuple[int, int] = (7, 5), memory: int = 15 << 30, computes: bool = True
) -> Iterator[GPU]:
    """While it lasts, PyTorch sees one GPU.

    Args:
        computes: whether it computes, or only counts what would have to be computed, in no time.
    """
    gpu = GPU(name, capability, memory, computes)
    torch._C._ensureCUDADeviceGuardSet()
    torch._C._set_only_lift_cpu_tensors(True)
    overwritten = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    home = Stream()
    replaced = {
        torch.autograd: {"backward": backward, "grad": grad},
        torch.accelerator: {
            "current_accelerator": lambda *_, **__: CUDA,
            "current_stream": lambda *_: Stream.current or home,
        },
        torch.Tensor: {"pin_memory": lambda self, *_: gpu.pin(self)},
        torch.cuda: {
            "is_available": lambda: True,
            "is_initialized": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "set_device": lambda device: None,
            "get_device_name": lambda *_: gpu.name,
            "get_device_capability": lambda *_: gpu.capability,
            "is_bf16_supported": lambda including_emulation=True: including_emulation or gpu.capability >= (8, 0),
            "mem_get_info": lambda *_: (gpu.memory, gpu.memory),
            "synchronize": lambda *_: gpu.wait("cuda.synchronize"),
            "Stream": Stream,
            "Event": Event,
            "current_stream": lambda *_: Stream.current or home,
            "stream": stream,
            "set_stream": lambda chosen: setattr(Stream, "current", chosen),
            "get_rng_state": lambda *_: torch.zeros(16, dtype=torch.uint8),
            "set_rng_state": lambda *_: None,
            "CUDAGraph": CUDAGraph,
            "graph": capture,
            "is_current_stream_capturing": lambda: gpu.tape is not None,
        },
    }
    GPU_NOW.append(gpu)
    try:
        with contextlib.ExitStack() as stack:
            for owner, functions in replaced.items():
                for function, value in functions.items():
                    stack.enter_context(mock.patch.object(owner, function, value))
            stack.enter_context(Dispatch())
            yield gpu
    finally:
        GPU_NOW.pop()
        Stream.current = None
        torch.__future__.set_overwrite_module_params_on_conversion(overwritten)
        torch._C._set_only_lift_cpu_tensors(False)
