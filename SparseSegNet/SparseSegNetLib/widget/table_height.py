"""Height of a table that shows a number of rows."""

from __future__ import annotations


def heightForRows(table, rows: int) -> int:
    """Height in pixels at which a QTableView shows its header and its first rows.

    Args:
        table: The table.
        rows: Number of rows; those that the table does not have count as empty ones.
    """
    empty = table.verticalHeader().defaultSectionSize
    there = min(rows, table.model().rowCount())
    height = sum(table.rowHeight(row) for row in range(there)) + (rows - there) * empty
    return height + table.horizontalHeader().sizeHint.height() + 2 * table.frameWidth
