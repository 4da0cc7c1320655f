"""Rewrite the generated parts of the documentation: `make docs`."""

from pathlib import Path

from understudy.actors import events_page
from understudy.messages import catalogue_page

here = Path(__file__).parent
(here / "errors.md").write_text(catalogue_page.render())
(here / "events.md").write_text(events_page.render())
