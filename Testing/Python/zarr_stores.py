"""Small OME-Zarr stores."""

import zarr


def axes(names="zyx", unit="millimeter"):
    kinds = {"c": "channel", "t": "time"}
    found = [{"name": name, "type": kinds.get(name, "space")} for name in names]
    return [{**axis, "unit": unit} if unit and axis["type"] == "space" else axis for axis in found]


def write_store(
    path,
    *levels,
    version="0.5",
    names="zyx",
    spacing=(1.0, 1.0, 1.0),
    translation=None,
    unit="millimeter",
    chunks=(8, 8, 8),
    shards=None,
    more=None,
    fill=0,
):
    """Writes arrays as the levels of an image, each with double the spacing; returns the path."""
    old = version == "0.4"
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if old else 3)
    lead = len(names) - 3
    datasets = []
    for number, array in enumerate(levels):
        given = {"chunk_key_encoding": {"name": "v2", "separator": "/"}} if old else {}
        if shards:
            given["shards"] = (1,) * lead + tuple(shards)
        group.create_array(
            str(number),
            shape=array.shape,
            chunks=(1,) * lead + tuple(chunks),
            dtype=array.dtype,
            fill_value=fill,
            **given,
        )[:] = array
        steps = [{"type": "scale", "scale": [1.0] * lead + [2.0**number * s for s in spacing]}]
        if translation is not None:
            steps.append({"type": "translation", "translation": [0.0] * lead + list(translation)})
        datasets.append({"path": str(number), "coordinateTransformations": steps})
    scales = {"axes": axes(names, unit), "datasets": datasets}
    if old:
        group.attrs.update({"multiscales": [{"version": version, **scales}], **(more or {})})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [scales], **(more or {})}
    return path
