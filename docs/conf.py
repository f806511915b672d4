"""Sphinx's settings for the site that ``make docs`` builds; tools/docs says how."""

import atoll

project = "Atoll"
author = "The Atoll authors"
project_copyright = author
version = release = atoll.__version__

extensions = ["myst_parser", "sphinx_copybutton"]

# Markdown: headings are link targets, as they are where the pages are read as files.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist", "colon_fence"]

# The reference is written by tools/docs_reference.py; in a long signature each parameter has a line.
add_module_names = False
maximum_signature_line_length = 90
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"

# Blocks that do not say what they are: commands, output, fragments.
highlight_language = "default"
# What copying leaves out: prompts and output.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = f"Atoll {release}"
html_static_path = ["style"]
html_css_files = ["atoll.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "navigation_with_keys": True,
    "light_css_variables": {"color-brand-primary": "#0b6e6e", "color-brand-content": "#0b6e6e"},
    "dark_css_variables": {"color-brand-primary": "#5cc8c0", "color-brand-content": "#5cc8c0"},
}
