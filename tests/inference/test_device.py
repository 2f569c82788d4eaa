"""How many threads a job takes, and in which number format it computes."""

from __future__ import annotations

import os

import pytest

from napari_emda.inference import device


def write(path, **files):
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)


def test_limits_of_control_groups_of_version_2(tmp_path):
    write(tmp_path, cpu__max="max 100000\n")
    assert device._cgroup_cores(tmp_path, "0::/\n") is None
    write(tmp_path, cpu__max="150000 100000\n")
    assert device._cgroup_cores(tmp_path, "0::/\n") == 1.5
    # The limit of a group holds for those below it; the smallest one counts.
    write(tmp_path / "job", cpu__max="400000 100000\n")
    write(tmp_path / "job" / "step", cpu__max="max 100000\n")
    write(tmp_path, cpu__max="800000 100000\n")
    assert device._cgroup_cores(tmp_path, "0::/job/step\n") == 4
    # In a container the path is that of the machine, and not to be seen.
    assert device._cgroup_cores(tmp_path, "0::/docker/123abc\n") == 8


@pytest.mark.parametrize("controllers", ["cpu,cpuacct", "cpu"])
def test_limits_of_control_groups_of_version_1(tmp_path, controllers):
    tree = tmp_path / controllers
    write(tree, cpu__cfs_quota_us="-1\n", cpu__cfs_period_us="100000\n")
    groups = f"5:memory:/job\n4:{controllers}:/job\n1:name=systemd:/\n"
    assert device._cgroup_cores(tmp_path, groups) is None
    write(tree / "job", cpu__cfs_quota_us="250000\n", cpu__cfs_period_us="100000\n")
    assert device._cgroup_cores(tmp_path, groups) == 2.5


@pytest.mark.parametrize("content", ["", "nonsense", "0::", "0::/../../..\n", "1 2 3\n"])
def test_control_groups_that_say_nothing_are_no_limit(tmp_path, content):
    write(tmp_path / "cgroup", cpu__max=content)
    assert device._cgroup_cores(tmp_path / "cgroup", content) is None


@pytest.mark.parametrize(("limit", "cores"), [(0.5, 1), (1.0, 1), (1.5, 2), (None, None)])
def test_cores_are_limited_by_the_control_group(monkeypatch, limit, cores):
    monkeypatch.setattr(device, "_cgroup_cores", lambda: None)
    all_cores = device.available_cores()
    monkeypatch.setattr(device, "_cgroup_cores", lambda: limit)
    assert device.available_cores() == min(all_cores, cores or all_cores)


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ("1", 1),
        (" 1 ", 1),
        ("1,2", 1),
        ("0", None),
        ("-1", None),
        ("two", None),
        ("", None),
        ("1.5", None),
        ("9" * 5000, None),
        ("99999", os.cpu_count()),
    ],
)
def test_the_number_of_threads_that_users_ask_for(monkeypatch, given, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert device._requested_threads() == threads


@pytest.mark.parametrize(
    ("vendor", "flags", "is_fast"),
    [
        ("AuthenticAMD", "avx2 fma", False),
        ("AuthenticAMD", "avx512f avx512_bf16", True),
        ("GenuineIntel", "avx512f avx512_bf16", False),
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", True),
    ],
)
def test_a_processor_computes_in_bfloat16_only_where_that_is_faster(
    tmp_path, vendor, flags, is_fast
):
    write(tmp_path, cpuinfo=f"vendor_id : {vendor}\nflags : fpu vme {flags}\n")
    assert device._has_bf16("cpu", tmp_path / "cpuinfo") is is_fast
    assert not device._has_bf16("cpu", tmp_path / "not there")
