"""Writes small TIFF files, with any tags."""

import struct

RATIONAL, TEXT, SHORT, LONG = 5, 2, 3, 4


def write_tiff(path, pages, tags=(), order="<"):
    """pages: (rows, columns) or (rows, columns, samples) arrays; tags: (tag, kind, values)."""
    data = bytearray(b"II*\0" if order == "<" else b"MM\0*") + bytearray(4)
    link = 4
    for n, page in enumerate(pages):
        samples = page.shape[2] if page.ndim == 3 else 1
        entries = {
            256: (LONG, [page.shape[1]]),
            257: (LONG, [page.shape[0]]),
            258: (SHORT, [8 * page.itemsize] * samples),
            259: (SHORT, [1]),
            262: (SHORT, [2 if samples == 3 else 1]),
            273: (LONG, [len(data)]),
            277: (SHORT, [samples]),
            278: (LONG, [page.shape[0]]),
            279: (LONG, [page.nbytes]),
        }
        data += page.astype(page.dtype.newbyteorder(order)).tobytes()
        for tag, kind, values in tags:
            if tag != 270 or n == 0:
                entries[tag] = (kind, values)
        rows = []
        for tag, (kind, values) in sorted(entries.items()):
            if kind == TEXT:
                count, raw = len(values) + 1, values + b"\0"
            elif kind == RATIONAL:
                count, raw = 1, struct.pack(order + "II", *values)
            else:
                count = len(values)
                raw = struct.pack(f"{order}{count}{'H' if kind == SHORT else 'I'}", *values)
            if len(raw) > 4:
                data += b"\0" * (len(data) % 2)
                place, raw = len(data), raw
                data += raw
                raw = struct.pack(order + "I", place)
            rows.append(struct.pack(order + "HHI", tag, kind, count) + raw.ljust(4, b"\0"))
        data += b"\0" * (len(data) % 2)
        struct.pack_into(order + "I", data, link, len(data))
        data += struct.pack(order + "H", len(rows)) + b"".join(rows)
        link = len(data)
        data += b"\0\0\0\0"
    path.write_bytes(data)
    return path
