"""Models: backbone, flow estimation, aggregation, R-FCN heads and video meta-architectures."""

from iff_detectron2.utils import needs_detectron2  # noqa: F401

from .aggregation import (
    AGGREGATOR_REGISTRY,
    Aggregation,
    Aggregator,
    Alignment,
    AverageAggregator,
    build_aggregator,
    key_frame_options,
)
from .alignment_loss import (
    ALIGNMENT_LOSS_REGISTRY,
    AlignmentLoss,
    TransformationResidualLoss,
    build_alignment_loss,
)
from .backbone import ReducedResNet, build_dilated_resnet_backbone
from .context_loss import ContextResidualLoss
from .deformable_aggregation import DeformableAggregator
from .flow_estimator import (
    FLOW_ESTIMATOR_REGISTRY,
    AdvancedIFF,
    BasicIFF,
    DirectionalIFF,
    FlowEstimator,
    build_flow_estimator,
)
from .flow_guided_aggregation import FlowGuidedAggregator
from .flownet import FlowNetS
from .frame_memory import FrameMemory
from .offset_aggregation import OffsetAwareAggregator
from .rfcn import RFCNOutputLayers, RFCNROIHeads, RFCNRPNHead
from .seam import VideoMixin
from .similarity_aggregation import Embedding, SimilarityAggregator
from .temporal import TemporalAggregation
from .temporal_for import temporal_for
from .track_motion import TrackLoss
from .two_hypotheses_aggregation import TwoHypothesesAggregator
from .video_arch import (
    VideoFCOS,
    VideoGeneralizedRCNN,
    VideoPanopticFPN,
    VideoProposalNetwork,
    VideoRetinaNet,
    VideoSemanticSegmentor,
    make_video_arch,
)

__all__ = [
    "AGGREGATOR_REGISTRY",
    "ALIGNMENT_LOSS_REGISTRY",
    "FLOW_ESTIMATOR_REGISTRY",
    "AdvancedIFF",
    "Aggregation",
    "Aggregator",
    "Alignment",
    "AlignmentLoss",
    "AverageAggregator",
    "BasicIFF",
    "ContextResidualLoss",
    "DeformableAggregator",
    "DirectionalIFF",
    "Embedding",
    "FlowEstimator",
    "FlowGuidedAggregator",
    "FlowNetS",
    "FrameMemory",
    "OffsetAwareAggregator",
    "RFCNOutputLayers",
    "RFCNROIHeads",
    "RFCNRPNHead",
    "ReducedResNet",
    "SimilarityAggregator",
    "TemporalAggregation",
    "TrackLoss",
    "TransformationResidualLoss",
    "TwoHypothesesAggregator",
    "VideoFCOS",
    "VideoGeneralizedRCNN",
    "VideoMixin",
    "VideoPanopticFPN",
    "VideoProposalNetwork",
    "VideoRetinaNet",
    "VideoSemanticSegmentor",
    "build_aggregator",
    "build_alignment_loss",
    "build_dilated_resnet_backbone",
    "build_flow_estimator",
    "key_frame_options",
    "make_video_arch",
    "temporal_for",
]
