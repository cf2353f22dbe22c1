"""Pictures: boxes, flow, panels and plots."""
