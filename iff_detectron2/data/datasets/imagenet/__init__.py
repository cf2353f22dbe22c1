"""ImageNet VID and DET in the layout of ILSVRC2015."""
