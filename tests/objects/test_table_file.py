"""Tables of objects as files: what was written is read, in whatever batches."""

from __future__ import annotations

import numpy as np
import pytest

from napari_emda.errors import DataError
from napari_emda.objects import table_file
from napari_emda.objects.table_file import read_csv, write_csv


def tables():
    rng = np.random.default_rng(0)
    numbers = {"id": np.arange(1, 24), "size (nm^3)": rng.random(23) * 1e9}
    texts = np.array([f'It is "{k}", or {k + 1}.\nReally.' if k % 2 else "" for k in range(23)])
    return [numbers, {**numbers, "reason": texts}, {name: v[:0] for name, v in numbers.items()}]


@pytest.mark.parametrize("batch", [1, 7, 23, 100])
@pytest.mark.parametrize("index", range(3))
def test_what_was_written_is_read(tmp_path, monkeypatch, index, batch):
    monkeypatch.setattr(table_file, "_BATCH", batch)
    table = tables()[index]
    write_csv(table, tmp_path / "t.csv")
    found = read_csv(tmp_path / "t.csv")
    assert list(found) == list(table)
    for name, column in table.items():
        if column.dtype.kind == "U":
            assert found[name].tolist() == column.tolist()
        else:
            np.testing.assert_allclose(found[name], column, rtol=1e-8)


@pytest.mark.parametrize(
    "text", ["id,size\n1,2\n3\n", "id,size\n1,x\n", "id,reason\n1,a,b\n", "id,size\n\n1,2,3\n"]
)
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match="find the objects again"):
        read_csv(tmp_path / "t.csv")
