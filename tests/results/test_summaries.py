import json
import re
from dataclasses import asdict

import pytest

from msun_lite.config import make_config
from msun_lite.results.records import read_measurement, read_summary
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.errors import CheckpointError, UserError
from tests.runs import summary


def test_a_run_made_before_its_options_were_in_the_summary_has_them_beside_it(tmp_path):
    path = tmp_path / "summary.json"
    older = summary(method="mst")
    del older["config"]
    path.write_text(json.dumps(older))
    with pytest.raises(UserError, match=r"config\.yaml: expected a YAML file of options"):
        read_summary(path)
    config = make_config("quick", method="mst", seed=3)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert read_summary(path) == {**older, "config": asdict(config)}
    path.write_text(json.dumps({**older, "config": {"seed": 4}}))
    assert read_summary(path)["config"] == {"seed": 4}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean_top1": None}, "mean_top1: expected float, got None"),
        ({"sizes": "8"}, "sizes: expected list, got '8'"),
        ({"steps": 6.5}, "steps: expected int, got 6.5"),
        ({}, "expected a measurement with feeding, found none in it"),
    ],
)
def test_what_is_no_record_is_refused_by_file_key_and_value(changed, message, tmp_path):
    path = tmp_path / "found.json"
    path.write_text(json.dumps(summary(**changed)))
    with pytest.raises(CheckpointError, match=f"^{re.escape(f'{path}: {message}')}$"):
        _ = read_summary(path) if changed else read_measurement(path)
