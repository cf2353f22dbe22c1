"""Configuration keys of this extension: new keys only, nothing of Detectron2's is changed."""

from __future__ import annotations

from detectron2.config import CfgNode as CN


def add_iff_config(cfg: CN) -> None:
    """Add the keys of iff_detectron2 to a Detectron2 config, in place."""
    # What MODEL.WEIGHTS lacks is an error: every weight in testing; in training those that are
    # frozen, since nothing would give them a value. True leaves them random, to try things out.
    cfg.MODEL.ALLOW_MISSING_WEIGHTS = False

    # --- Backbone: ResNet with a dilated end and a reduction layer ------------------------------
    cfg.MODEL.DILATED_RESNET = CN()
    # Blocks of res2 to res5; empty for the standard numbers of MODEL.RESNETS.DEPTH.
    cfg.MODEL.DILATED_RESNET.NUM_BLOCKS = []
    # Stages that would go beyond this stride are dilated instead (16: res5; 8: res4 and res5).
    cfg.MODEL.DILATED_RESNET.OUTPUT_STRIDE = 16
    # Last blocks of res2 to res5 whose 3x3 layer is deformable (DCN v1), in groups of
    # MODEL.RESNETS.DEFORM_NUM_GROUPS.
    cfg.MODEL.DILATED_RESNET.DEFORM_BLOCKS = [0, 0, 0, 0]
    # The 3x3 layer behind res5: its channels are halved between RPN and R-FCN head.
    cfg.MODEL.DILATED_RESNET.REDUCTION_CHANNELS = 1024
    # Dilation of that layer (6 in FGFA's release; the paper does not say).
    cfg.MODEL.DILATED_RESNET.REDUCTION_DILATION = 6

    # Compute the blocks of the backbone again in the backward pass instead of keeping what they
    # computed (gradient checkpointing): less memory, more time. Not with BatchNorm.
    cfg.MODEL.BACKBONE.RECOMPUTE = False

    # --- R-FCN head -----------------------------------------------------------------------------
    cfg.MODEL.RFCN = CN()
    # Bins a side of the position-sensitive maps.
    cfg.MODEL.RFCN.POOLER_RESOLUTION = 7
    # Regions an image that online hard example mining keeps; 0 keeps all of them.
    cfg.MODEL.RFCN.OHEM_TOPK = 128

    # --- Temporal aggregation -------------------------------------------------------------------
    cfg.MODEL.IFF = CN()
    # Feature maps of the backbone to aggregate; empty for all of them.
    cfg.MODEL.IFF.IN_FEATURES = []
    # One of AGGREGATOR_REGISTRY: FlowGuidedAggregator, OffsetAwareAggregator,
    # TwoHypothesesAggregator, SimilarityAggregator, AverageAggregator, DeformableAggregator.
    cfg.MODEL.IFF.AGGREGATOR = "FlowGuidedAggregator"
    # The key frame itself is one of the fused frames; in training too (FGFA's release: not there).
    cfg.MODEL.IFF.FUSE_KEY_FRAME = True
    cfg.MODEL.IFF.FUSE_KEY_FRAME_IN_TRAINING = True
    # Add what the neighbours change times a learned scale that starts at zero: a trained detector
    # starts with exactly its old output.
    cfg.MODEL.IFF.GATE = False
    # Train the temporal part alone; weights and BatchNorm statistics of the detector stay.
    cfg.MODEL.IFF.FREEZE_DETECTOR = False

    cfg.MODEL.IFF.FLOW = CN()
    # One of FLOW_ESTIMATOR_REGISTRY: BasicIFF, AdvancedIFF, DirectionalIFF, FlowNetS.
    cfg.MODEL.IFF.FLOW.NAME = "AdvancedIFF"
    # The feature map whose flow is resized and carried to all others; empty if each of
    # IN_FEATURES finds its own.
    cfg.MODEL.IFF.FLOW.LEVEL = ""
    # Width of the layers on the features (EB-1 in the advanced module); of conv4 and conv5 of
    # FlowNetS, whose other layers follow in proportion.
    cfg.MODEL.IFF.FLOW.CHANNELS = 512
    # Width of the layers behind the correlation and of EB-2 (advanced module).
    cfg.MODEL.IFF.FLOW.PAIR_CHANNELS = 128
    # Largest displacement and stride of the correlation, in cells (advanced module).
    cfg.MODEL.IFF.FLOW.MAX_DISPLACEMENT = 10
    cfg.MODEL.IFF.FLOW.CORRELATION_STRIDE = 2
    # Train no parameter of the flow estimator, which must then come with MODEL.WEIGHTS (OptFlow-A).
    cfg.MODEL.IFF.FLOW.FREEZE = False
    # Let only the losses on the alignment (TRL, TRACK_LOSS) train the flow: the detector's losses
    # bend it to other ends.
    cfg.MODEL.IFF.FLOW.DETACH = False
    # Order of the colour channels that the weights of FlowNetS want; INPUT.FORMAT is turned to it.
    cfg.MODEL.IFF.FLOW.INPUT_FORMAT = "RGB"
    # Learning rate of the flow layers over SOLVER.BASE_LR. A flow that leaves the map gets no
    # gradient to come back, so nets that train at a high rate from random weights need less here.
    cfg.MODEL.IFF.FLOW.LR_FACTOR = 1.0
    # Train the flow layers with an AdamW of their own at this learning rate, which follows the same
    # schedule; 0: by the detector's optimizer.
    cfg.MODEL.IFF.FLOW.ADAMW_LR = 0.0

    # Embedding in which the similarity of frames is measured: 1x1, 3x3, 1x1 convolutions.
    cfg.MODEL.IFF.EMBEDDING = CN()
    cfg.MODEL.IFF.EMBEDDING.HIDDEN_CHANNELS = 512
    cfg.MODEL.IFF.EMBEDDING.CHANNELS = 2048
    # Warp the embedding (once a frame) instead of embedding the warped features (once a pair).
    cfg.MODEL.IFF.EMBEDDING.BEFORE_WARP = True

    # Sampling by deformable convolution instead of flow (DeformableAggregator): width of the layers
    # that find the offsets, and groups of features that have offsets of their own.
    cfg.MODEL.IFF.DEFORM = CN()
    cfg.MODEL.IFF.DEFORM.CHANNELS = 256
    cfg.MODEL.IFF.DEFORM.GROUPS = 4

    # Self-supervised loss on the alignment (transformation residual loss, TRL).
    cfg.MODEL.IFF.TRL = CN()
    cfg.MODEL.IFF.TRL.ENABLED = True
    # One of ALIGNMENT_LOSS_REGISTRY: TransformationResidualLoss, ContextResidualLoss.
    cfg.MODEL.IFF.TRL.NAME = "TransformationResidualLoss"
    # Weight of the loss (lambda of Eq. 3).
    cfg.MODEL.IFF.TRL.WEIGHT = 0.65
    # The weight grows from 0 to its value in this number of iterations.
    cfg.MODEL.IFF.TRL.WARMUP_ITERS = 0
    # Let gradient pass the two feature maps that the loss compares, so that it may also change what
    # is aligned. Through the flow, which is predicted from features, it reaches them either way.
    cfg.MODEL.IFF.TRL.GRAD_TO_FEATURES = False
    # ContextResidualLoss: share of patches (census) in the residual, and factor of the roughness of
    # the flow away from edges of the features.
    cfg.MODEL.IFF.TRL.CENSUS = 0.5
    cfg.MODEL.IFF.TRL.SMOOTHNESS = 0.3

    # Beyond the paper: loss between the flow and the motion of the boxes' tracks, 0 for none; needs
    # INPUT.VIDEO.TRACKS.
    cfg.MODEL.IFF.TRACK_LOSS = CN()
    cfg.MODEL.IFF.TRACK_LOSS.WEIGHT = 0.0

    # Training of the temporal part alone, on video without labels (`iff-detectron2 adapt`).
    cfg.MODEL.IFF.ADAPT = CN()
    cfg.MODEL.IFF.ADAPT.ENABLED = False
    # Some of ADAPTATION_LOSS_REGISTRY, beside the alignment loss of MODEL.IFF.TRL.
    cfg.MODEL.IFF.ADAPT.LOSSES = ["RestorationLoss", "HarmlessnessLoss"]
    # Weight of what is left of the harm, and of what aggregation does to a clean key frame.
    cfg.MODEL.IFF.ADAPT.RESTORATION_WEIGHT = 1.0
    cfg.MODEL.IFF.ADAPT.HARMLESSNESS_WEIGHT = 1.0
    # How key frames are spoilt: kinds of data.deteriorations, empty for all; least and largest
    # strength.
    cfg.MODEL.IFF.ADAPT.DETERIORATIONS = []
    cfg.MODEL.IFF.ADAPT.STRENGTH = [0.4, 1.1]
    # Videos and folders of frames; the last HELD_OUT of each is for judging.
    cfg.MODEL.IFF.ADAPT.INPUTS = []
    cfg.MODEL.IFF.ADAPT.HELD_OUT = 0.2
    # Held-out clips that are judged every TEST.EVAL_PERIOD iterations; training ends when this many
    # looks in a row bring no improvement, 0 for never.
    cfg.MODEL.IFF.ADAPT.HELD_OUT_CLIPS = 64
    cfg.MODEL.IFF.ADAPT.PATIENCE = 3
    # Learning rate of gates and other single numbers over SOLVER.BASE_LR: they have far to go.
    cfg.MODEL.IFF.ADAPT.GATE_LR_FACTOR = 10.0

    # --- Training ------------------------------------------------------------------------------
    # The images that a process has in a step pass the model in this number of parts, whose
    # gradients add up; 0: one image at a time. IMS_PER_BATCH and the schedule keep their meaning.
    cfg.SOLVER.ACCUMULATE_STEPS = 1
    # With SOLVER.AMP.ENABLED: float16 (with a loss scale), bfloat16, or empty for float16 on a GPU
    # and bfloat16 on a CPU.
    cfg.SOLVER.AMP.DTYPE = ""

    # What to do where the files of a training sample cannot be read: raise, or skip, which takes
    # another sample in its place, as long as no more than so many different ones are bad.
    cfg.DATALOADER.BAD_DATA = "raise"
    cfg.DATALOADER.BAD_DATA_LIMIT = 100

    # --- Video input ----------------------------------------------------------------------------
    cfg.INPUT.VIDEO = CN()
    # Neighbours a key frame in training, drawn from [t - MAX_OFFSET, t + MAX_OFFSET].
    cfg.INPUT.VIDEO.NUM_REFS = 2
    cfg.INPUT.VIDEO.MAX_OFFSET = 10
    # Training samples carry the boxes of the key frame and its reference frames by track id, as far
    # as those are annotated: the flow is measured against them (`iff/epe` in the metrics).
    cfg.INPUT.VIDEO.TRACKS = False

    cfg.TEST.VIDEO = CN()
    # Neighbours a key frame in testing: NUM_REFS frames, STRIDE apart, both sides or past only.
    cfg.TEST.VIDEO.NUM_REFS = 20
    cfg.TEST.VIDEO.STRIDE = 1
    cfg.TEST.VIDEO.CAUSAL = False
    # Pass each frame through the backbone once, in order, and keep its features in a memory;
    # otherwise every sample carries its whole window and samples may come in any order.
    cfg.TEST.VIDEO.STREAMING = True
    # Neighbours that are fused at a time, to bound memory; 0 for all at once.
    cfg.TEST.VIDEO.PAIRS_PER_CHUNK = 0
    # Type (float32, float16, bfloat16; empty: as computed) and device (cpu; empty: the model's) of
    # the features that a stream keeps.
    cfg.TEST.VIDEO.MEMORY_DTYPE = ""
    cfg.TEST.VIDEO.MEMORY_DEVICE = ""
    # GiB that a VideoPredictor may plan to use; 0 for what the device has free.
    cfg.TEST.VIDEO.MEMORY_LIMIT = 0.0
    # Mixed precision of a VideoPredictor: float16, bfloat16, or empty for float32 throughout.
    cfg.TEST.VIDEO.AMP = ""
    # Mode in which torch.compile works on the backbone, the encoders and the fusion in mid-video of
    # a VideoPredictor: default, reduce-overhead (CUDA graphs), max-autotune; empty for none.
    cfg.TEST.VIDEO.COMPILE = ""
    # What a VideoPredictor does where the size of the frames changes: error, or reset (end the
    # windows there and start anew).
    cfg.TEST.VIDEO.ON_SIZE_CHANGE = "error"
    # Rules of the evaluation: fgfa, devkit or coco.
    cfg.TEST.VIDEO.PROTOCOL = "fgfa"
    # Also report boxes of 0-50^2, 50^2-150^2 and over 150^2 pixels (fgfa and devkit).
    cfg.TEST.VIDEO.AREA_RANGES = False
    # FGFA's .mat with the motion of ImageNet VID val's boxes; empty: motion from track ids.
    cfg.TEST.VIDEO.MOTION_IOU_FILE = ""
    # Post-processing of whole videos before they are scored: seq_nms, seq_nms_plus, empty for none.
    # seq_nms wants all boxes: ROI_HEADS.NMS_THRESH_TEST 1.0 and TEST.DETECTIONS_PER_IMAGE -1.
    cfg.TEST.VIDEO.POSTPROCESS = ""

    # Datasets to register before use, as NAME=FORMAT:PATH[@PART]; see iff_detectron2.data.
    cfg.DATASETS.REGISTER = []
