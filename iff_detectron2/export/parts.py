"""A video detector in three modules of tensors: frame to codes, codes to maps, maps to boxes."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from iff_detectron2.modeling.seam import VideoMixin, image_backbone, in_place_of, run_to_backbone

# Of a map, the code that is the map itself.
FEATURE = "feature"


class _SizesOpen(TorchFunctionMode):
    """Pools as PyTorch does, but without a question whether a side is even.

    Asked by the shape function of a strided max-pooling, it would bind an exported program to sizes
    like that of its example. Pooling at every cell and then taking every second asks nothing.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.max_pool2d, F.max_pool2d):
            return _max_pool(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _max_pool(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    step = kernel_size if stride is None or stride == [] else stride
    if ceil_mode or return_indices:
        pool = F.max_pool2d_with_indices if return_indices else torch.max_pool2d
        return pool(input, kernel_size, step, padding, dilation, ceil_mode)
    down, across = (step, step) if isinstance(step, int) else step
    return torch.max_pool2d(input, kernel_size, 1, padding, dilation)[..., ::down, ::across]


class FramePart(nn.Module):
    """From one frame as it is decoded and resized to what is kept of it.

    Attributes:
        names: of the codes, "MAP.CODE", after the first call.
    """

    def __init__(self, model: nn.Module) -> None:
        """
        Args:
            model: a detector in evaluation mode, plain or video.

        Raises:
            ValueError: if it does not normalise images by `pixel_mean` and `pixel_std`.
        """
        super().__init__()
        mean, std = (getattr(model, name, None) for name in ("pixel_mean", "pixel_std"))
        if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
            raise ValueError(
                f"{type(model).__name__} has no pixel_mean and pixel_std, so it is not known how "
                "its images are prepared, and it cannot be exported"
            )
        self.backbone = image_backbone(model)
        self.temporal = model.temporal if isinstance(model, VideoMixin) else None
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        # As the model has them, [3, 1, 1] of its type.
        self.register_buffer("pixel_mean", mean.clone())
        self.register_buffer("pixel_std", std.clone())
        self.divisibility = int(getattr(self.backbone, "size_divisibility", 0))
        self.names: list[str] = []

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Encode a frame.

        Args:
            image: uint8 [1, 3, h, w], in the colour order of the config.

        Returns:
            Its codes, in the order of `names`.
        """
        x = self.normalised(image)
        with _SizesOpen():
            features = self.backbone(x)
        codes = (
            {level: {FEATURE: map_} for level, map_ in features.items()}
            if self.temporal is None
            else self.temporal.encode(features, x)
        )
        self.names = [f"{level}.{name}" for level in codes for name in codes[level]]
        return tuple(codes[level][name] for level in codes for name in codes[level])

    def normalised(self, image: Tensor) -> Tensor:
        """Normalise and pad, [1, 3, H, W]."""
        x = (image - self.pixel_mean) / self.pixel_std
        if self.divisibility > 1:
            x = F.pad(x, (0, -x.shape[3] % self.divisibility, 0, -x.shape[2] % self.divisibility))
        return x

    def check(self, model: nn.Module, image: Tensor) -> None:
        """Compare this preparation of an image with that of the detector itself.

        Raises:
            ValueError: if they differ.
        """
        forward = super(VideoMixin, model).forward if isinstance(model, VideoMixin) else model
        call = run_to_backbone(forward, self.backbone, [{"image": image[0]}])  # type: ignore[arg-type]
        own = self.normalised(image)
        batch = call.images
        alone = len(call.args) == 1 and call.args[0] is batch and not call.kwargs
        if not alone or batch.shape != own.shape or not torch.allclose(batch, own, atol=1e-5):
            raise ValueError(
                f"{type(model).__name__} prepares its images in another way than by pixel_mean, "
                "pixel_std and size_divisibility, and cannot be exported"
            )


class KeyPart(nn.Module):
    """From the codes of a key frame and its reference frames to its fused maps."""

    def __init__(self, model: VideoMixin, code_names: list[str]) -> None:
        """
        Args:
            model: a video detector in evaluation mode.
            code_names: of the codes of a frame, as `FramePart.names` has them.
        """
        super().__init__()
        self.temporal = model.temporal
        self.fused = [n for n in _maps_of(code_names) if n in model.temporal.aggregators]
        self.names = [n for n in code_names if n.rpartition(".")[0] in self.fused]

    def forward(
        self, key: tuple[Tensor, ...], refs: tuple[Tensor, ...], offsets: Tensor
    ) -> tuple[Tensor, ...]:
        """Fuse a key frame.

        Args:
            key: its codes in the order of `names`, [1, ., H, W] each.
            refs: those of its T reference frames, [T, ., H, W] each.
            offsets: frames from the key frame to each, int64 [T].

        Returns:
            The fused maps, [1, C, H, W], in the order of `fused`.
        """
        fused = self.temporal.fuse_codes(self._by_map(key), self._by_map(refs), offsets)
        return tuple(fused[level].feature for level in self.fused)

    def _by_map(self, codes: tuple[Tensor, ...]) -> dict[str, dict[str, Tensor]]:
        found: dict[str, dict[str, Tensor]] = defaultdict(dict)
        for full, code in zip(self.names, codes, strict=True):
            level, _, name = full.rpartition(".")
            found[level][name] = code
        return found


class HeadsPart(nn.Module):
    """From feature maps to boxes: the detector behind its backbone."""

    def __init__(self, model: nn.Module, code_names: list[str]) -> None:
        """
        Args:
            model: a detector in evaluation mode, plain or video.
            code_names: as for `KeyPart`.
        """
        super().__init__()
        self.model = model
        self.maps = _maps_of(code_names)

    def forward(self, image: Tensor, *maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect.

        Args:
            image: uint8 [1, 3, h, w], of which only the size matters.
            maps: fused maps, in the order of `maps`.

        Returns:
            Boxes [R, 4] in pixels of the image, scores [R] and classes [R].

        Raises:
            ValueError: the detector gives no boxes with scores and classes.
        """
        features = dict(zip(self.maps, maps, strict=True))
        model: Any = self.model
        forward = super(VideoMixin, model).forward if isinstance(model, VideoMixin) else model
        with in_place_of(image_backbone(model), lambda *args, **kwargs: features):
            (output,) = forward([{"image": image[0]}])
        found = output if isinstance(output, Instances) else output.get("instances")
        if found is None or not found.has("pred_boxes") or not found.has("pred_classes"):
            raise ValueError(f"{type(model).__name__} gives no boxes with scores and classes")
        return found.pred_boxes.tensor, found.scores, found.pred_classes


def _maps_of(code_names: list[str]) -> list[str]:
    """Return the names of feature maps among those of codes, in the order of the backbone."""
    return list(dict.fromkeys(name.rpartition(".")[0] for name in code_names))
