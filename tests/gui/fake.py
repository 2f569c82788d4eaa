"""The stand-in for the child process, and what it is told to know."""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent

CATALOGUE = {
    "methods": [
        {
            "name": "auto",
            "summary": "Borrows the target's grey values.",
            "domains": ["source", "target"],
            "needs_annotations": False,
            "schema": {"properties": {}},
        },
        {
            "name": "source_only",
            "summary": "Never looks at the target.",
            "domains": ["source"],
            "needs_annotations": False,
            "schema": {"properties": {}},
        },
        {
            "name": "finetune",
            "summary": "Learns from your patches.",
            "domains": ["source", "target"],
            "needs_annotations": True,
            "schema": {
                "properties": {
                    "replay": {
                        "default": 0.5,
                        "minimum": 0,
                        "maximum": 1,
                        "step": 0.1,
                        "type": "number",
                        "description": "Weight.",
                    }
                }
            },
        },
    ],
    "strategies": [
        {"name": "entropy", "summary": "The least sure.", "schema": {"properties": {}}, "needs_prediction": True},
        {"name": "random", "summary": "By lot.", "schema": {"properties": {}}, "needs_prediction": False},
    ],
    "device": "cpu",
}


def fake_command(behaviour="work"):
    return (sys.executable, str(HERE / "fake_child.py"), behaviour, "{job}")


def methods_command():
    return (sys.executable, "-c", f"print({json.dumps(CATALOGUE)!r})")
