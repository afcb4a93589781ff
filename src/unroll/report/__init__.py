"""The report: figures and one self-contained HTML page. The only importer of matplotlib and jinja2."""
