"""COCO-style JSON with videos: COCO-VID, frames as COCO images, YouTube-VIS."""
