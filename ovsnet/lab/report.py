"""The matrix's result for people: a grid where it fits, and everything that differs."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ovsnet.lab.matrix import Entry, Result

GRID_PORTS = 16
_MOST_LINES = 40


def show(result: Result, console: Console) -> None:
    """Print a result: the grid for at most 16 ports, what differs (40 lines of it), and the one-line summary."""
    ports = sorted({name for entry in result.entries for name in (entry.pair.src, entry.pair.dst)})
    if 0 < len(ports) <= GRID_PORTS:
        console.print(_grid(result.entries, ports))
        console.print("✓ reaches   · must not, and does not   ✗ not as declared", style="dim")
    lines = [f"{e.pair.src} to {e.pair.dst} ({e.pair.dst_ip}): {'; '.join(e.faults)}" for e in result.wrong]
    lines += [f"stray: {text}" for text in result.stray] + [f"unknown on the wire: {text}" for text in result.unknown]
    for line in lines[:_MOST_LINES]:
        console.print(f"[red]✗[/red] {escape(line)}")
    if len(lines) > _MOST_LINES:
        console.print(f"... and {len(lines) - _MOST_LINES} more: --json has them all")
    console.print(f"{escape(result.line())} [dim]({result.seconds:.1f} s)[/dim]", style="green" if result.ok else "red")


def _grid(entries: list[Entry], ports: list[str]) -> Table:
    cells: dict[tuple[str, str], str] = {}
    for entry in entries:
        key, word = (entry.pair.src, entry.pair.dst), "✓" if entry.pair.allowed else "·"
        cells[key] = "✗" if entry.faults or cells.get(key) == "✗" else word
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("from \\ to", no_wrap=True)
    for number in range(1, len(ports) + 1):
        table.add_column(str(number), justify="center")
    styles = {"✓": "green", "✗": "bold red", "·": "dim"}
    for number, src in enumerate(ports, 1):
        row = []
        for dst in ports:
            cell = cells.get((src, dst), "")
            row.append(f"[{styles[cell]}]{cell}[/]" if cell else "")
        table.add_row(f"{number} {src}", *row)
    return table
