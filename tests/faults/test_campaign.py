"""A few attacks of each kind; all of them are in ``python -m benchmarks.faults``.

Commands run in forks of one warm process, so that each takes a fraction of a second.
"""

from __future__ import annotations

import pytest

from tests.faults.campaign import Campaign
from tests.faults.names import at_each_change
from tests.faults.server import Server
from tests.faults.shim import library
from tests.faults.template import Template


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Attacks on copies of one project."""
    folder = tmp_path_factory.mktemp("campaign").resolve()
    built = library(folder)
    if built is None:
        pytest.skip("this needs Linux and a C compiler")
    server = Server(built, folder)
    yield Campaign(Template(server, folder))
    server.close()


def spread(campaign, kind, command, count, only=""):
    """So many attacks of a kind on a command, from its beginning to its end."""
    names = [
        name for name in at_each_change(kind, command, campaign.reference(command)) if only in name
    ]
    return names[len(names) // (2 * count) :: max(1, len(names) // count)][:count]


def unharmed(campaign, *names):
    for name in names:
        assert campaign.attack(name) == [], name


@pytest.mark.parametrize("command", ["new", "start", "unpack", "resume", "predict", "decide"])
def test_a_kill_loses_nothing(campaign, command):
    unharmed(campaign, *spread(campaign, "kill", command, 1))


@pytest.mark.parametrize("variant", ["synced", "names", "zeros", "content"])
def test_what_was_accepted_survives_a_loss_of_power(campaign, variant):
    unharmed(campaign, *spread(campaign, "power", "decide", 2, variant))


@pytest.mark.parametrize("command", ["annotate", "export tif"])
def test_a_disk_that_fails_is_one_sentence(campaign, command):
    unharmed(campaign, *spread(campaign, "fault", command, 2))


@pytest.mark.parametrize("command", ["resume", "replace zarr"])
def test_a_signal_stops_a_command_in_order(campaign, command):
    unharmed(campaign, *spread(campaign, "signal", command, 1))


def test_files_that_lie_do_no_harm(campaign):
    unharmed(campaign, *(f"input:{seed}" for seed in range(6)))


def test_two_models_are_never_mixed_in_one_prediction(campaign):
    unharmed(campaign, "pair:predict:predict last:0")


# -- the campaign itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ["kill:careless:torn kill", "power:careless:names"])
def test_a_careless_program_is_found_out(campaign, attack):
    changes = campaign.reference("careless").changes
    # While it writes over its list of patches, and when it has written all.
    writes = [c.number for c in changes if c.call == "write" and c.path.endswith("regions.jsonl")]
    at = writes[0] if attack.startswith("kill") else changes[-1].number
    assert "lost" in {problem.kind for problem in campaign.attack(f"{attack}:{at}")}


def test_a_change_outside_of_the_project_is_found_out(campaign):
    case = campaign.template.copy()
    before = case.untouchable()
    assert case.untouchable() == before
    (case.folder / "outside" / "thesis.txt").write_text("gone")
    assert case.untouchable() != before
    assert [problem.kind for problem in campaign._kept(case, before)] == ["outside"]
