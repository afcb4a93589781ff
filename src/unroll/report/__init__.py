"""Figures and one self-contained HTML page: the only importer of matplotlib and jinja2."""
