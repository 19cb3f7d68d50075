"""Files appear whole or not at all, and nothing in a weight file runs."""

import pickle

import pytest
import torch

from ifrp_bench.ground.errors import InputError
from ifrp_bench.ground.files import sha256_of, write_whole
from ifrp_bench.ground.weights import floats, halves, in_bytes, load_state, save_state


def test_state_comes_back_as_it_was(tmp_path):
    state = {"a": torch.rand(3, 2), "b": torch.arange(4).half()}
    save_state(tmp_path / "w.safetensors", state)
    loaded = load_state(tmp_path / "w.safetensors", sha256=sha256_of(tmp_path / "w.safetensors"))
    assert all(
        torch.equal(loaded[name], value) and loaded[name].dtype == value.dtype
        for name, value in state.items()
    )


def test_weights_in_bytes_come_back_within_half_a_step_of_their_output(tmp_path):
    torch.manual_seed(0)
    size = torch.tensor([1e-9, 1.0, 50.0])   # float16 has none of the first
    state = {
        "conv": torch.randn(3, 4, 3, 3) * size.view(3, 1, 1, 1), "linear": torch.randn(3, 8) * size[:, None],
        "dead": torch.zeros(2, 5), "bias": torch.randn(3), "count": torch.tensor(70000),
    }
    save_state(tmp_path / "w.safetensors", in_bytes(state))
    kept = load_state(tmp_path / "w.safetensors")
    assert kept["conv"].dtype == kept["linear"].dtype == torch.int8
    found = floats(kept)
    assert set(found) == set(state)
    for name in ("conv", "linear", "dead"):
        step = state[name].flatten(1).abs().amax(1) / 127
        off = (found[name] - state[name]).flatten(1).abs().amax(1)
        assert found[name].dtype == torch.float32 and (off <= 0.501 * step).all()
    assert torch.equal(found["bias"], floats(halves(state))["bias"]) and found["count"] == 70000


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    target = tmp_path / "file"
    write_whole(target, b"old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError):
        write_whole(target, b"new")
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


class Evil:
    def __reduce__(self):
        return print, ("this ran",)


@pytest.mark.parametrize(
    "content, reason",
    [
        (pickle.dumps(Evil()), "broken file"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"", "broken file"),
        (b"\x00" * 64, "broken file"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_no_weight_file_is_refused_and_does_not_run(tmp_path, capsys, content, reason, suffix):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        load_state(path)
    assert "this ran" not in capsys.readouterr().out


def test_pickled_objects_in_a_torch_file_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1), "b": Evil()}, tmp_path / "w.pth")
    with pytest.raises(InputError):
        load_state(tmp_path / "w.pth")


def test_changed_and_missing_files_are_named(tmp_path):
    save_state(tmp_path / "w.safetensors", {"a": torch.zeros(2)})
    with pytest.raises(InputError, match="expected 000000"):
        load_state(tmp_path / "w.safetensors", sha256="0" * 64)
    with pytest.raises(InputError, match="no such weight file"):
        load_state(tmp_path / "missing.safetensors")
