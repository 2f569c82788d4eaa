"""Journals: whatever is cut off or spoilt is recognised, and nothing is read out of half a line."""

import errno
import json
import os

import pytest

from napari_emda.io.journal import append, read_journal

ENTRIES = [{"id": "a", "n": 1}, {"id": "ä", "n": 15}, {"id": "c"}]


def texts(entries):
    return [json.dumps(entry) for entry in entries]


def entries(path):
    """What is read back; None for damaged lines."""
    return [None if line.text is None else json.loads(line.text) for line in read_journal(path)]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "log.jsonl"
    append(path, texts(ENTRIES))
    return path


def test_what_is_appended_is_read_back(journal):
    append(journal, texts([{"id": "d"}]))
    assert entries(journal) == [*ENTRIES, {"id": "d"}]
    assert sum(line.size for line in read_journal(journal)) == journal.stat().st_size


def test_every_line_is_a_json_object_for_others(journal):
    read = [json.loads(line) for line in journal.read_text("utf-8").splitlines()]
    assert [{key: entry[key] for key in entry if key != "check"} for entry in read] == ENTRIES


def test_there_is_nothing_in_a_file_that_is_not_there(tmp_path):
    assert read_journal(tmp_path / "log.jsonl") == []


def test_cut_off_anywhere_it_loses_only_what_was_not_whole(journal):
    content = journal.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        journal.write_bytes(content[:size])
        # A line without its end is whole if nothing but the end is missing.
        whole = sum(end - 1 <= size for end in ends)
        assert [entry for entry in entries(journal) if entry is not None] == ENTRIES[:whole]
        append(journal, texts([{"id": "new"}]))
        assert entries(journal) == [*ENTRIES[:whole], {"id": "new"}]


@pytest.mark.parametrize("spoilt", [b"\0" * 5, b"9", b"\n"])
def test_a_line_that_the_disk_has_spoilt_is_recognised(spoilt, journal):
    content = bytearray(journal.read_bytes())
    place = content.index(b"15")
    content[place : place + len(spoilt)] = spoilt
    journal.write_bytes(content)
    read = [_text(line) for line in read_journal(journal)]
    assert read[0] == ENTRIES[0]
    assert read[-1] == ENTRIES[2]
    assert all(line is None for line in read[1:-1])


def _text(line):
    """An entry; None if the line is no whole entry."""
    try:
        return None if line.text is None else json.loads(line.text)
    except ValueError:
        return None


def test_lines_of_older_versions_are_read_and_their_end_is_healed(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"id": "a"}\n{"id": "b"}\n{"id": "c')
    append(path, texts([{"id": "d"}]))
    assert entries(path) == [{"id": "a"}, {"id": "b"}, {"id": "d"}]


def test_a_long_line_that_was_cut_off_is_removed_whole(journal):
    with journal.open("ab") as file:
        file.write(b'{"painted": "' + b"x" * 200_000)
    append(journal, texts([{"id": "d"}]))
    assert entries(journal) == [*ENTRIES, {"id": "d"}]


@pytest.mark.parametrize("written", [0, 7])
def test_a_full_disk_leaves_the_journal_as_it_was(written, journal, monkeypatch):
    before = journal.read_bytes()
    write = os.write

    def full(descriptor, content):
        if len(content) > written:
            write(descriptor, content[:written])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, content)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            append(journal, texts([{"id": "d"}]))
    assert journal.read_bytes() == before
