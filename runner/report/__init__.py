"""What finished jobs leave: files of a job, files of a batch, what GitHub reads, and the summary on the terminal."""

from __future__ import annotations

from runner.report.batch import BatchReport, write_batch_report
from runner.report.folder import COST, JUNIT, PATCH, REPORT, RESULT, rewrite_artifacts, write_artifacts
from runner.report.github import to_github
from runner.report.html import render_html
from runner.report.jobs import TRANSCRIPT, Row, read_batch, totals
from runner.report.text import print_summary, summary

__all__ = [
    "COST",
    "JUNIT",
    "PATCH",
    "REPORT",
    "RESULT",
    "TRANSCRIPT",
    "BatchReport",
    "Row",
    "print_summary",
    "read_batch",
    "render_html",
    "rewrite_artifacts",
    "summary",
    "to_github",
    "totals",
    "write_artifacts",
    "write_batch_report",
]
