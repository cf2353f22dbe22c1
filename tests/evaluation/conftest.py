"""Fixtures of the evaluation tests."""

from __future__ import annotations

import itertools

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from vid_cases import CLASSES


@pytest.fixture
def register(clean_catalogs, request):
    """Register dataset dicts under a name of the test's own."""
    counter = itertools.count()

    def call(dicts, classes=CLASSES):
        name = f"{request.node.name}_{next(counter)}"
        DatasetCatalog.register(name, lambda: dicts)
        MetadataCatalog.get(name).set(thing_classes=list(classes), evaluator_type="vid")
        return name

    return call
