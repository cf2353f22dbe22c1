"""Post-processing of detections over time; stands alone."""
