"""Comments in the layout of WILDS, with control characters."""

from pathlib import Path

import pandas as pd

from datasets.formats.civilcomments import IDENTITIES

CONTROLS = ["\r", "\n", "\r\n", "\x00", "\x0b", "\x0c", "\x1c", "\x1e", "\x85", "\u2028", '"', ","]


def write_original(root: Path, quoted: bool = True) -> pd.DataFrame:
    """Write WILDS' file: comment i has label i % 2, and says so."""
    rows = []
    for i in range(12 * len(CONTROLS)):
        text = f"text {i}{CONTROLS[i // 12]}says {i % 2}"
        shares = [1.0] * 8 if i % 3 else [0.0] * 8
        rows.append([text, ("train", "val", "test")[i % 12 // 4], float(i % 2), *shares])
    table = pd.DataFrame(rows, columns=["comment_text", "split", "toxicity", *IDENTITIES])
    folder = root / "civilcomments"
    folder.mkdir(parents=True)
    path = folder / "all_data_with_identities.csv"
    path.write_bytes(table.to_csv(quoting=1 if quoted else 0).encode())
    if not quoted:  # as Python before 3.11.9 and 3.12.3 does
        path.write_bytes(path.read_bytes().replace(b'"text 0\rsays 0"', b"text 0\rsays 0"))
    return table
