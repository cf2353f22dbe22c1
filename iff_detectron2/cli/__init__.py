"""The command line as `iff_detectron2.cli.main`; it lives in `iff_detectron2_cli`."""
