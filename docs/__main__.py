"""Rewrite the generated parts of the documentation: `make docs`."""

from pathlib import Path

from understudy.messages.catalogue_page import render

Path(__file__).with_name("errors.md").write_text(render())
