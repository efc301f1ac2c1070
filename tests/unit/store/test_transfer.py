"""Objects on their way from store to store, and files that only look like it."""

from __future__ import annotations

import io
import resource
import tarfile

import pytest

from erasure.errors import CorruptArtifact, StoreError
from erasure.store import Store
from erasure.store.transfer import export_objects, import_objects


@pytest.fixture
def exported(store, publish, where, tmp_path):
    """A file with the fixture object."""
    publish()
    path = tmp_path / "objects.tar"
    assert export_objects(store, [where], path) == 1
    return path


def rewritten(path, change):
    """The file with every member changed by ``change(member, data)``, which gives a list of members with their data."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    with tarfile.open(path, "w") as tar:
        for member, data in members:
            for new, content in change(member, data):
                new.size = 0 if content is None else len(content)
                tar.addfile(new, None if content is None else io.BytesIO(content))
    return path


def added(path, member, data=b""):
    with tarfile.open(path, "a") as tar:
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return path


def test_objects_arrive_byte_for_byte(store, exported, where, tmp_path):
    target = Store(tmp_path / "target")
    found = import_objects(target, exported)
    assert (found.new, found.known, found.refused) == ((where,), (), {})
    target.open(where).verify()
    for file in ("manifest.json", "weights.safetensors", "history.json"):
        one, other = ((root / "objects" / where[:2] / where / file).read_bytes() for root in (store.root, target.root))
        assert one == other
    assert [entry.address for entry in target.entries()] == [where]
    assert import_objects(target, exported).known == (where,)
    assert not list((target.root / "tmp").iterdir())


def test_equal_objects_give_equal_files(store, exported, where, tmp_path):
    export_objects(store, [where, where], tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == exported.read_bytes()


def test_a_damaged_object_is_not_exported(store, publish, where, tmp_path):
    (publish() / "history.json").write_bytes(b"{}")
    with pytest.raises(CorruptArtifact):
        export_objects(store, [where], tmp_path / "objects.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


TRICKS = {
    "absolute": "/tmp/evil",
    "upwards": "objects/../../evil",
    "dots inside": "objects/{a2}/{a}/../../../evil",
    "a dot file": "objects/{a2}/{a}/.evil",
    "a folder below": "objects/{a2}/{a}/x/evil",
    "another shard": "objects/00/{a}/evil",
    "elsewhere": "locks/evil",
    "empty": "",
    "backslash": "objects\\{a2}\\{a}\\evil",
    "line break": "objects/{a2}/{a}/evil\n",
}


@pytest.mark.parametrize("name", TRICKS.values(), ids=TRICKS)
def test_a_name_that_is_no_objects_file_is_refused_and_nothing_is_taken(exported, where, tmp_path, name):
    added(exported, tarfile.TarInfo(name.format(a=where, a2=where[:2])), b"evil")
    before = sorted(tmp_path.rglob("*"))
    target = Store(tmp_path / "target")
    with pytest.raises(StoreError, match="is refused, and nothing was taken from it"):
        import_objects(target, exported)
    assert list(target.addresses()) == []
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE])
def test_links_devices_and_directories_are_refused(exported, where, tmp_path, kind):
    member = tarfile.TarInfo(f"objects/{where[:2]}/{where}/evil")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(StoreError, match="is not a plain file"):
        import_objects(Store(tmp_path / "target"), added(exported, member))


def test_a_member_that_is_there_twice_is_refused(exported, tmp_path):
    rewritten(exported, lambda member, data: [(member, data)] * (2 if member.name.endswith("history.json") else 1))
    with pytest.raises(StoreError, match="is there twice"):
        import_objects(Store(tmp_path / "target"), exported)


DAMAGE = {
    "flipped byte": lambda m, d: [(m, d[:-1] + bytes([d[-1] ^ 1]) if m.name.endswith("safetensors") else d)],
    "shorter": lambda m, d: [(m, d[:-1] if m.name.endswith("history.json") else d)],
    "manifest damaged": lambda m, d: [(m, d.replace(b'"epochs":2', b'"epochs":3') if m.name.endswith("manifest.json") else d)],
    "manifest missing": lambda m, d: [] if m.name.endswith("manifest.json") else [(m, d)],
    "file missing": lambda m, d: [] if m.name.endswith("history.json") else [(m, d)],
    "file added": lambda m, d: (
        [(m, d)] if not m.name.endswith("history.json") else [(m, d), (tarfile.TarInfo(m.name.replace("history", "more")), d)]
    ),
    "address of another": lambda m, d: [
        (tarfile.TarInfo(m.name if m.name == "FORMAT" else f"objects/{'0' * 2}/{'0' * 64}/{m.name.rpartition('/')[2]}"), d)
    ],
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_object_is_refused(exported, tmp_path, change):
    target = Store(tmp_path / "target")
    found = import_objects(target, rewritten(exported, change))
    assert (found.new, found.known) == ((), ())
    (reason,) = found.refused.values()
    assert "corrupt" in reason
    assert list(target.addresses()) == []
    assert not (target.root / "tmp").exists() or not list((target.root / "tmp").iterdir())


def test_a_sound_object_beside_a_damaged_one_is_taken(store, publish, where, tmp_path):
    from erasure.store import address

    publish()
    other = address("model", {})
    with store.publish(other, "model", {}) as writer:
        writer.save_json("x", 1)
    export_objects(store, [where, other], tmp_path / "two.tar")
    flip = lambda m, d: [(m, b"2\n" if m.name.endswith("x.json") else d)]  # noqa: E731
    found = import_objects(Store(tmp_path / "target"), rewritten(tmp_path / "two.tar", flip))
    assert found.new == (where,)
    assert list(found.refused) == [other]


def test_a_file_of_a_newer_format_is_refused(exported, tmp_path):
    rewritten(exported, lambda m, d: [(m, b'{"format": 2}\n' if m.name == "FORMAT" else d)])
    with pytest.raises(StoreError, match="is of format 2, this version of erasure reads format 1; upgrade erasure"):
        import_objects(Store(tmp_path / "target"), exported)


@pytest.mark.parametrize("data", [b"", b"no tar file", b"\0" * 20_000], ids=["empty", "text", "zeros"])
def test_what_is_no_such_file_is_refused(tmp_path, data):
    (tmp_path / "x.tar").write_bytes(data)
    with pytest.raises(StoreError, match="not a file that erasure cache export wrote"):
        import_objects(Store(tmp_path / "target"), tmp_path / "x.tar")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file_gives_a_named_error_or_sound_objects_only(exported, tmp_path, share):
    data = exported.read_bytes()
    exported.write_bytes(data[: int(len(data) * share)])
    target = Store(tmp_path / "target")
    try:
        found = import_objects(target, exported)
    except StoreError:
        assert list(target.addresses()) == []
    else:
        assert sorted(target.addresses()) == sorted(found.new)
        for where in target.addresses():
            target.open(where).verify()


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"Cannot read .*nothing\.tar: no such file"):
        import_objects(Store(tmp_path / "target"), tmp_path / "nothing.tar")


def test_an_export_that_the_disk_refuses_leaves_no_file(store, publish, where, tmp_path):
    publish()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, limits[1]))
    try:
        with pytest.raises(StoreError, match=r"Cannot write .*objects\.tar: file too large"):
            export_objects(store, [where], tmp_path / "objects.tar")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
