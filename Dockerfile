# docker build -t iff-detectron2 .                       CPU
# docker build -t iff-detectron2 --build-arg TORCH=cuda .    GPU: docker run --gpus all ...
#
# docker run --rm -v "$PWD":/videos iff-detectron2 predict --input my_video.mp4 --tracks \
#     --config-file COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml
#
# Python 3.10: the one on which the compiled part of the published Detectron2 loads.
FROM python:3.10-slim-bookworm

# What opencv-python loads.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/iff_detectron2
COPY constraints.txt dev/setup_env.py ./
# torch's own wheels bring CUDA; those without it are a fifth as large.
ARG TORCH=cpu
RUN python -m venv .venv \
    && if [ "$TORCH" = cpu ]; then \
        .venv/bin/pip install --no-cache-dir -c constraints.txt torch torchvision \
            --index-url https://download.pytorch.org/whl/cpu; \
    elif [ "$TORCH" != cuda ]; then \
        echo "TORCH must be cpu or cuda, got $TORCH" >&2; exit 1; \
    fi
COPY . .
RUN PIP_NO_CACHE_DIR=1 python dev/setup_env.py --venv .venv

ENV PATH=/opt/iff_detectron2/.venv/bin:$PATH FVCORE_CACHE=/videos/.cache/iopath
WORKDIR /videos
ENTRYPOINT ["iff-detectron2"]
CMD ["--help"]
