"""The report of a project: one page that a paper's supplement can hold."""
