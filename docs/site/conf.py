"""How the site is built: `make site` writes its pages to build/site/source and builds them to build/site/html."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docstrings import read_docstring, skip_member
from project_facts import project_facts

import qtarget

_facts = project_facts()

project = "qtarget"
author = "The authors of qtarget"
project_copyright = f"{author}, Apache-2.0"
version = release = qtarget.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
nitpicky = False  # docstrings name torch's and TRL's classes, whose own sites are not asked

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
myst_links_external_new_tab = False
suppress_warnings = ["myst.header"]  # generated pages begin where their parent ends

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_use_ivar = True
python_use_unqualified_type_names = True
python_display_short_literal_types = True
maximum_signature_line_length = 90

html_theme = "furo"
html_title = f"qtarget {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_baseurl = _facts.documentation
html_theme_options = {
    "navigation_with_keys": True,
    **(
        {"source_repository": _facts.repository, "source_branch": "main", "source_directory": "docs/"} if _facts else {}
    ),
}

linkcheck_timeout = 20
linkcheck_retries = 2
linkcheck_ignore = [r"http://127\.0\.0\.1.*", r"http://host.*"]


def setup(app):
    """Sphinx's hook."""
    app.connect("autodoc-process-docstring", read_docstring, priority=1)  # ahead of napoleon, which reads the sections
    app.connect("autodoc-skip-member", skip_member)
