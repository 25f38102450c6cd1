"""Checkpoints: round trip, damage, and mismatched columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from feature_defs.errors import InputMissing
from fraud_models.registry.checkpoint import load_checkpoint, save_checkpoint
from fraud_models.scoring.scorer import Scorer, score_stream
from fraud_models.scoring.trained_model import TrainedModel
from tests.fraud_models.category_model import PLACE, VOCABULARIES, category_model
from tests.fraud_models.conftest import FINGERPRINTS, make_stream


def test_checkpoint_round_trip_is_lossless(model: TrainedModel, tmp_path: Path) -> None:
    digest = save_checkpoint(str(tmp_path), model)
    loaded = load_checkpoint(str(tmp_path), digest)
    assert replace(loaded, weights={}) == replace(model, weights={})
    assert all(loaded.weights[name].equal(w) for name, w in model.weights.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.json", "weights.safetensors"]


def test_checkpoint_holds_the_vocabularies_as_json(tmp_path: Path) -> None:
    model = category_model()
    digest = save_checkpoint(str(tmp_path), model)
    assert load_checkpoint(str(tmp_path), digest).encoding.vocabularies == VOCABULARIES
    content = json.loads((tmp_path / "checkpoint.json").read_text())
    stored = {item["name"]: item.get("vocabulary") for item in content["encoding"]["features"]}
    assert stored[PLACE] == {"values": ["home", "town", "resort"], "other_share": 0.1}
    assert stored["card_count_7d"] is None


def test_checkpoint_of_an_earlier_version_scores_to_the_bit(
    model: TrainedModel, tmp_path: Path
) -> None:
    stream = make_stream([5, 40])
    expected = list(score_stream([stream], Scorer(model), ("transaction_id",)))
    save_checkpoint(str(tmp_path), model)
    path = tmp_path / "checkpoint.json"
    content = json.loads(path.read_text())
    # It lacks the settings of categories and has no vocabulary.
    del content["config"]["max_categories"]
    for name in ("category_width", "category_floor"):
        del content["config"]["network"][name]
    path.write_text(json.dumps(content))
    opened = Scorer(load_checkpoint(str(tmp_path)))
    assert list(score_stream([stream], opened, ("transaction_id",))) == expected


@pytest.mark.parametrize("damage", [{"vocabulary": None}, {"vocabulary": {"values": ["a", "a"]}}])
def test_damaged_vocabulary_is_rejected(tmp_path: Path, damage: dict[str, object]) -> None:
    save_checkpoint(str(tmp_path), category_model())
    path = tmp_path / "checkpoint.json"
    content = json.loads(path.read_text())
    content["encoding"]["features"][0] |= damage
    path.write_text(json.dumps(content))
    with pytest.raises(InputMissing, match="cannot be read"):
        load_checkpoint(str(tmp_path))


def test_uncalibrated_model_stays_uncalibrated(model: TrainedModel, tmp_path: Path) -> None:
    save_checkpoint(str(tmp_path), replace(model, calibration=None))
    assert load_checkpoint(str(tmp_path)).calibration is None


def test_checkpoint_works_in_a_non_local_store(model: TrainedModel) -> None:
    digest = save_checkpoint("memory://models/one", model)
    assert load_checkpoint("memory://models/one", digest).columns == FINGERPRINTS


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("corrupt", [flip_last_byte, cut_in_half, Path.unlink])
@pytest.mark.parametrize("name", ["weights.safetensors", "checkpoint.json"])
def test_damaged_file_is_rejected_by_name(
    model: TrainedModel, tmp_path: Path, name: str, corrupt: Callable[[Path], None]
) -> None:
    digest = save_checkpoint(str(tmp_path), model)
    corrupt(tmp_path / name)
    with pytest.raises(InputMissing, match=name):
        load_checkpoint(str(tmp_path), digest)


def test_digest_mismatch_shows_both_digests(model: TrainedModel, tmp_path: Path) -> None:
    save_checkpoint(str(tmp_path), model)
    expected = json.loads((tmp_path / "checkpoint.json").read_text())["weights_sha256"]
    flip_last_byte(tmp_path / "weights.safetensors")
    with pytest.raises(InputMissing, match=r"SHA-256 is [0-9a-f]{64}") as caught:
        load_checkpoint(str(tmp_path))
    assert expected in str(caught.value)


@pytest.mark.parametrize("change", [{"format_version": 99}, {"encoding": {}}, {"config": {"x": 1}}])
def test_unknown_format_is_rejected(
    model: TrainedModel, tmp_path: Path, change: dict[str, object]
) -> None:
    save_checkpoint(str(tmp_path), model)
    path = tmp_path / "checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputMissing, match="format"):
        load_checkpoint(str(tmp_path))


def test_check_columns_lists_all_mismatches(model: TrainedModel) -> None:
    model.check_columns({**FINGERPRINTS, "another": "mark"})
    available = {**FINGERPRINTS, "card_count_7d": "changed", "transaction_amount": "changed"}
    del available["transaction_hour_of_day"], available["merchant_fraud_rate_7d_delay_7d"]
    with pytest.raises(InputMissing) as caught:
        model.check_columns(available)
    assert all(name in str(caught.value) for name in FINGERPRINTS)
