import json
from dataclasses import asdict

import pytest

from msun_lite.config import make_config
from msun_lite.results.records import read_summary
from msun_lite.utils.cli import dump_yaml
from msun_lite.utils.errors import UserError


def test_a_run_made_before_its_options_were_in_the_summary_has_them_beside_it(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"method": "mst"}))
    with pytest.raises(UserError, match=r"config\.yaml: expected a YAML file of options"):
        read_summary(path)
    config = make_config("quick", method="mst", seed=3)
    (tmp_path / "config.yaml").write_text(dump_yaml(config))
    assert read_summary(path) == {"method": "mst", "config": asdict(config)}
    path.write_text(json.dumps({"config": {"seed": 4}}))
    assert read_summary(path) == {"config": {"seed": 4}}
