"""The rows of the table about vectors: what is compared, and its goal."""

from __future__ import annotations

from tests.bench.rows import Row

RECALL = "recall@10"

ROWS = (
    Row("recall", "recall against exact search, default EF", 0.95, unit=RECALL, group="search"),
    Row("search-16", "VSEARCH, 16 connections / batches in process", 0.6, group="search"),
    Row("search-1", "VSEARCH, 1 connection / one by one in process", 0.5, group="search"),
    Row("vadd", "VADD pipelined, until indexed / add in process", 0.6, group="add"),
    Row("vmadd", "VMADD, until indexed / add in process", 0.8, group="load"),
    Row("filter-1", "filter that matches 1 %", 0.95, unit=RECALL, group="filter"),
    Row("filter-1-time", "its time / without, 1 connection", 3, more=False, group="filter"),
    Row("filter-1-time-16", "its time / without, 16 connections", None, False, group="filter"),
    Row("filter-50", "filter that matches 50 %", 0.95, unit=RECALL, group="filter"),
    Row("filter-50-time", "its time / without, 1 connection", 3, more=False, group="filter"),
    Row("filter-50-time-16", "its time / without, 16 connections", None, False, group="filter"),
    Row("get-p99", "p99 of GET, 8 search and 1 adds / Redis, loaded", 1, False, group="mixed"),
    Row("get-p99-idle", "p99 of GET, 8 search and 1 adds / idle", 10, False, group="mixed"),
    Row("memory", "memory of the index / raw BF16", 2.1, more=False, group="load"),
    Row("restart", "start until searches use the graph", 2, False, unit="s", group="restart"),
    Row("redis-search-1", "VSEARCH, 1 connection / Redis's VSIM", 2.5, group="redis"),
    Row("redis-search-8", "VSEARCH, 8 connections / Redis's VSIM", 1.5, group="redis"),
    Row("redis-add", "VADD, until indexed / Redis's VADD", 1.5, group="redis"),
)

BY_NAME = {row.name: row for row in ROWS}
