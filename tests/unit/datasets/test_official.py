"""What an official archive holds is written into a folder of our own, and nowhere else."""

from pipeline.datasets.official import _write_below


def test_metadata_is_never_written_through_a_link(tmp_path):
    own, root = tmp_path / "own", tmp_path / "root"
    (own / "annotations").mkdir(parents=True)
    (own / "annotations" / "list.txt").write_text("mine", encoding="utf-8")
    (own / "setid.mat").write_text("mine", encoding="utf-8")
    root.mkdir()
    (root / "annotations").symlink_to(own / "annotations")
    (root / "setid.mat").symlink_to(own / "setid.mat")
    _write_below(root, "annotations/list.txt", b"theirs")
    _write_below(root, "setid.mat", b"theirs")
    assert (root / "annotations/list.txt").read_bytes() == (root / "setid.mat").read_bytes() == b"theirs"
    assert (own / "annotations" / "list.txt").read_text(encoding="utf-8") == "mine"
    assert (own / "setid.mat").read_text(encoding="utf-8") == "mine"
